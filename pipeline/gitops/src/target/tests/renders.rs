//! What kustomize itself makes of an edited file, where kubectl is installed.

use std::process::Command;

use super::*;

#[test]
fn kustomize_renders_the_digest_and_the_tag_beside_it() {
    let Ok(version) = Command::new("kubectl").args(["version", "--client"]).output() else {
        assert!(std::env::var_os("CI").is_none(), "kubectl is missing");
        println!("skipped: kubectl is not installed");
        return;
    };
    println!("{}", String::from_utf8_lossy(&version.stdout));
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: car}\nspec:\n  containers:\n  - {name: car, image: car}\n";
    let target = target("{kind: kustomize, file: kustomization.yaml, image: car}");
    let new = digest('2');
    for (tag, want) in [
        ("", format!("image: r.example:5000/team/car@{new}")),
        ("  newTag: v1.0.0\n", format!("image: r.example:5000/team/car:v2.0.0@{new}")),
    ] {
        let text = format!(
            "resources: [pod.yaml]\nimages:\n- name: car\n  newName: r.example:5000/team/car\n{tag}  digest: {}\n",
            digest('1')
        );
        let edited = target.set(text.as_bytes(), &repository(), &pin()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("pod.yaml"), pod).unwrap();
        std::fs::write(dir.path().join("kustomization.yaml"), edited.text).unwrap();
        let made = Command::new("kubectl").arg("kustomize").arg(dir.path()).output().unwrap();
        let text = String::from_utf8_lossy(&made.stdout);
        assert!(text.contains(&want), "{text}{}", String::from_utf8_lossy(&made.stderr));
    }
}
