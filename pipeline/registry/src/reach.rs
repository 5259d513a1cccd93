//! What may be removed, decided without I/O: a graph of manifests, and what is reached in it.
//!
//! Reached is what has a tag, was put lately, or is on the caller's list; then the children of an
//! index, what refers to a reached manifest (signatures, laps), and the subject of a reached one.

use std::collections::{HashMap, HashSet};

use pitlane_release::digest::Digest;

/// A manifest as the graph holds it.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub(super) children: Vec<Digest>,
    pub(super) blobs: Vec<Digest>,
    pub(super) subject: Option<Digest>,
    /// Stays by itself.
    pub(super) root: bool,
}

/// The manifests of one repository.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: HashMap<Digest, Node>,
    referrers: HashMap<Digest, Vec<Digest>>,
}

/// What stays.
#[derive(Debug, Default)]
pub(super) struct Reached {
    pub(super) manifests: HashSet<Digest>,
    pub(super) blobs: HashSet<Digest>,
}

impl Graph {
    pub(super) fn add(&mut self, digest: Digest, node: Node) {
        if let Some(subject) = node.subject {
            self.referrers.entry(subject).or_default().push(digest);
        }
        self.nodes.insert(digest, node);
    }

    pub(super) fn manifests(&self) -> impl Iterator<Item = &Digest> {
        self.nodes.keys()
    }

    /// What stays, when these digests stay besides the roots.
    pub(super) fn reach(&self, kept: &HashSet<Digest>) -> Reached {
        let stays = |(digest, node): &(&Digest, &Node)| node.root || kept.contains(*digest);
        let mut work: Vec<Digest> = self.nodes.iter().filter(stays).map(|(d, _)| *d).collect();
        // What refers to a kept digest that is no manifest of this repository.
        work.extend(kept.iter().filter_map(|k| self.referrers.get(k)).flatten());
        let mut reached = Reached { blobs: kept.clone(), ..Reached::default() };
        while let Some(digest) = work.pop() {
            let Some(node) = self.nodes.get(&digest) else { continue };
            if !reached.manifests.insert(digest) {
                continue;
            }
            reached.blobs.extend(&node.blobs);
            work.extend(&node.children);
            work.extend(node.subject);
            work.extend(self.referrers.get(&digest).into_iter().flatten());
        }
        reached
    }

    /// What is not reached, so ordered that an index stands before its children.
    pub(super) fn doomed(&self, reached: &Reached) -> Vec<Digest> {
        let mut order = Vec::new();
        let mut seen = HashSet::new();
        let mut all: Vec<_> = self.nodes.keys().copied().collect();
        all.sort_unstable();
        for start in all {
            // Depth first, by hand: a chain of indexes may be as long as there are manifests.
            let mut path = vec![(start, false)];
            while let Some((digest, left)) = path.pop() {
                if left {
                    order.push(digest);
                } else if !reached.manifests.contains(&digest)
                    && self.nodes.contains_key(&digest)
                    && seen.insert(digest)
                {
                    path.push((digest, true));
                    path.extend(self.nodes[&digest].children.iter().map(|child| (*child, false)));
                }
            }
        }
        order.reverse();
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn d(byte: u8) -> Digest {
        Digest::from_bytes([byte; 32])
    }

    fn node(children: &[u8], blobs: &[u8], subject: Option<u8>, root: bool) -> Node {
        let all = |list: &[u8]| list.iter().map(|byte| d(*byte)).collect();
        Node { children: all(children), blobs: all(blobs), subject: subject.map(d), root }
    }

    fn lane() -> Graph {
        let mut graph = Graph::default();
        // An index with two platforms, its statement under a tag, a signature of a platform.
        graph.add(d(1), node(&[2, 3], &[], None, false));
        graph.add(d(2), node(&[], &[20, 22], None, false));
        graph.add(d(3), node(&[], &[20, 23], None, false));
        graph.add(d(4), node(&[], &[24], Some(1), true));
        graph.add(d(5), node(&[], &[25], Some(2), false));
        // Another image, and its signature: nobody's.
        graph.add(d(6), node(&[7], &[], None, false));
        graph.add(d(7), node(&[], &[20, 27], None, false));
        graph.add(d(8), node(&[], &[28], Some(6), false));
        graph
    }

    #[test]
    fn a_tag_keeps_all_that_belongs_to_it() {
        let graph = lane();
        let reached = graph.reach(&HashSet::new());
        assert_eq!(reached.manifests, HashSet::from([d(1), d(2), d(3), d(4), d(5)]));
        assert_eq!(reached.blobs, [20, 22, 23, 24, 25].map(d).into());
        let doomed = graph.doomed(&reached);
        let at = |byte| doomed.iter().position(|found| *found == d(byte)).unwrap();
        assert_eq!(doomed.len(), 3);
        assert!(at(6) < at(7), "an index goes before its children: {doomed:?}");
    }

    #[test]
    fn a_kept_digest_keeps_its_referrers_and_what_it_names() {
        let graph = lane();
        let reached = graph.reach(&HashSet::from([d(6)]));
        assert_eq!(reached.manifests.len(), 8);
        assert!(graph.doomed(&reached).is_empty());
        // A platform that a car needs keeps its blobs, not the index around it.
        let reached = graph.reach(&HashSet::from([d(7), d(99)]));
        assert!(reached.blobs.is_superset(&[20, 27, 99].map(d).into()));
        assert_eq!(graph.doomed(&reached), [d(8), d(6)]);
    }

    proptest! {
        /// Nothing that stays names something that goes; every index goes before its children.
        #[test]
        fn what_stays_is_whole(edges in proptest::collection::vec((0u8..12, 0u8..12, 0u8..3), 0..40), roots in proptest::collection::vec(0u8..12, 0..4)) {
            let mut nodes: HashMap<u8, Node> = (0..12).map(|n| (n, Node::default())).collect();
            for (from, to, kind) in edges {
                let node = nodes.get_mut(&from).unwrap();
                match kind {
                    // A manifest cannot hold its own digest, so children form no circles.
                    0 if from < to => node.children.push(d(to)),
                    1 => node.blobs.push(d(100 + to)),
                    _ => node.subject = Some(d(to)),
                }
            }
            for root in roots {
                nodes.get_mut(&root).unwrap().root = true;
            }
            let mut graph = Graph::default();
            for (name, node) in &nodes {
                graph.add(d(*name), node.clone());
            }
            let reached = graph.reach(&HashSet::new());
            let doomed = graph.doomed(&reached);
            for (name, node) in &nodes {
                let stays = reached.manifests.contains(&d(*name));
                prop_assert!(stays || !node.root);
                prop_assert_eq!(stays, !doomed.contains(&d(*name)));
                let at = |digest: Digest| doomed.iter().position(|found| *found == digest);
                for child in &node.children {
                    prop_assert!(!stays || reached.manifests.contains(child));
                    if let (Some(parent), Some(child)) = (at(d(*name)), at(*child)) {
                        prop_assert!(parent < child);
                    }
                }
                prop_assert!(!stays || node.blobs.iter().all(|blob| reached.blobs.contains(blob)));
                if let Some(subject) = node.subject {
                    prop_assert_eq!(stays, reached.manifests.contains(&subject));
                }
            }
        }
    }
}
