//! Which repositories may start which pipeline, and by which tags.

use std::collections::BTreeMap;

use pitlane_release::{CarKind, RepoName};
use serde::{Deserialize, Serialize};

/// More routes than a service has repositories are a mistake in a generated file.
const MAX_ROUTES: usize = 4096;

/// A longer pattern cannot match a tag of at most 128 characters in any useful way.
const MAX_PATTERN: usize = 256;

/// One line of the list: tags of `repository` that match `tag_pattern` run `pipeline`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Route {
    /// `owner/name`, as in GitHub's `full_name`; compared without case, as GitHub does.
    pub repository: String,
    /// Name of the pipeline that builds it.
    pub pipeline: String,
    /// The kind of car its releases are ordered for; counters are per (repository, kind).
    pub car_kind: String,
    /// Glob over the tag's short name: `*` any characters, `?` exactly one.
    #[serde(default = "any_tag")]
    pub tag_pattern: String,
    /// Whether a tag may move to another commit and build again. Off: a moved tag is refused.
    #[serde(default)]
    pub allow_moved_tags: bool,
    /// Whether a new tag takes the place of those that still wait. Off: every tag is released.
    #[serde(default)]
    pub supersede: bool,
}

fn any_tag() -> String {
    "*".to_owned()
}

/// Why a list of routes is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The repository is not `owner/name`.
    #[error("route of pipeline `{pipeline}`: {reason}")]
    Repository {
        /// Which route.
        pipeline: String,
        /// What is wrong, with the value.
        reason: String,
    },
    /// The pattern is empty or too long.
    #[error(
        "route of `{repository}`: the tag pattern has {length} characters, want 1 to {MAX_PATTERN}"
    )]
    Pattern {
        /// Which route.
        repository: String,
        /// Length found.
        length: usize,
    },
    /// Too many.
    #[error("{0} routes, at most {MAX_ROUTES} are allowed")]
    Many(usize),
}

/// The checked list; looked up for every delivery.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    by_repository: BTreeMap<String, Vec<Route>>,
}

impl Routes {
    /// Checks the list. Several routes may name one repository; the first whose pattern matches
    /// a tag is taken.
    pub fn new(routes: Vec<Route>) -> Result<Self, RouteError> {
        if routes.len() > MAX_ROUTES {
            return Err(RouteError::Many(routes.len()));
        }
        let mut by_repository = BTreeMap::<String, Vec<Route>>::new();
        for route in routes {
            let wrong = |reason: String| RouteError::Repository {
                pipeline: route.pipeline.clone(),
                reason,
            };
            let name = route.repository.parse::<RepoName>().map_err(|e| wrong(e.to_string()))?;
            route.car_kind.parse::<CarKind>().map_err(|e| wrong(e.to_string()))?;
            if !(1..=MAX_PATTERN).contains(&route.tag_pattern.len()) {
                return Err(RouteError::Pattern {
                    repository: route.repository,
                    length: route.tag_pattern.len(),
                });
            }
            by_repository.entry(name.as_str().to_ascii_lowercase()).or_default().push(route);
        }
        Ok(Self { by_repository })
    }

    /// Whether the repository is on the list at all.
    pub fn knows(&self, repository: &str) -> bool {
        self.by_repository.contains_key(&repository.to_ascii_lowercase())
    }

    /// The name the list gives to a repository, whatever case the sender used.
    pub fn canonical(&self, repository: &str) -> Option<&str> {
        let routes = self.by_repository.get(&repository.to_ascii_lowercase())?;
        routes.first().map(|route| route.repository.as_str())
    }

    /// The route of a tag: the first of this repository whose pattern matches.
    pub fn find(&self, repository: &str, tag: &str) -> Option<&Route> {
        let routes = self.by_repository.get(&repository.to_ascii_lowercase())?;
        routes.iter().find(|route| glob(&route.tag_pattern, tag))
    }
}

/// Whether `text` matches the glob; linear in pattern times text, without recursion, so that no
/// pattern can be made slow.
pub fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some('?') => {
                p += 1;
                t += 1;
            }
            Some(c) if *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                // Let the last star take one more character and try again.
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, want) in [
            ("v*", "v1.2.3", true),
            ("v*", "1.2.3", false),
            ("v*", "v", true),
            ("v?.?.?", "v1.2.3", true),
            ("v?.?.?", "v1.2.30", false),
            ("v*.*.*-car", "v1.22.3-car", true),
            ("v*.*.*-car", "v1.22.3-carx", false),
            ("*", "", true),
            ("?", "", false),
            ("v[0-9]*", "v1", false),
            ("v1.0", "v1x0", false),
            ("*a*b*c", "xxaxxbxxcxc", true),
            ("*a*b*c", "xxaxxbxxcxd", false),
        ] {
            assert_eq!(glob(pattern, text), want, "{pattern} on {text}");
        }
        // A pattern that makes backtracking matchers exponential ends at once.
        assert!(!glob(&"*a".repeat(100), &"a".repeat(99)));
    }

    fn route(repository: &str, pattern: &str) -> Route {
        Route {
            repository: repository.into(),
            pipeline: format!("p-{pattern}"),
            car_kind: "donkeycar".into(),
            tag_pattern: pattern.into(),
            allow_moved_tags: false,
            supersede: false,
        }
    }

    #[test]
    fn first_match_of_a_repository_without_case() {
        let routes =
            Routes::new(vec![route("Octo/Car", "v*"), route("octo/car", "*"), route("o/t", "t?")])
                .unwrap();
        assert_eq!(routes.find("octo/CAR", "v1").unwrap().pipeline, "p-v*");
        assert_eq!(routes.find("octo/car", "x1").unwrap().pipeline, "p-*");
        assert_eq!(routes.canonical("OCTO/car"), Some("Octo/Car"));
        assert!(routes.find("o/t", "v1").is_none());
        assert!(routes.knows("O/T") && !routes.knows("o/u"));
        assert!(!Routes::default().knows("octo/car"), "an empty list lets nobody in");
    }

    #[test]
    fn lists_that_are_none() {
        for bad in ["octo", "a/b/c", "../x", ""] {
            assert!(Routes::new(vec![route(bad, "*")]).is_err(), "{bad}");
        }
        assert!(Routes::new(vec![route("a/b", "")]).is_err());
        let kind = Route { car_kind: "Big Car".into(), ..route("a/b", "*") };
        assert!(Routes::new(vec![kind]).is_err());
        assert!(
            serde_json::from_str::<Route>(
                r#"{"repository":"a/b","pipeline":"p","carKind":"k","tagPatern":"v*"}"#
            )
            .is_err()
        );
    }
}
