//! `cargo xtask new-connector NAME`: copies `examples/connector-template` to `connector-NAME`.
//!
//! The workspace takes in `connector-*` by itself, so that no file outside the new folder is edited.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};

/// Folders of a working copy that are not part of the crate.
const NOT_COPIED: [&str; 2] = ["target", ".git"];

/// Makes the crate below `root`.
pub fn run(root: &Path, name: &str) -> anyhow::Result<()> {
    ensure!(
        name.len() <= 40
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && !name.ends_with('-')
            && !name.contains("--")
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'),
        "{name:?} is no name for a connector; write lower-case letters, digits and single hyphens, like `dhis2`"
    );
    ensure!(
        !matches!(name, "core" | "template"),
        "{name:?} is taken: connector-core is the shared core, connector-template what is copied"
    );
    let to = root.join(format!("connector-{name}"));
    ensure!(!to.exists(), "connector-{name} is there already; nothing was changed");
    let from = root.join("examples/connector-template");
    ensure!(
        from.join("Cargo.toml").is_file(),
        "examples/connector-template is missing below {}",
        root.display()
    );
    copy(&from, &to, name)?;
    Ok(())
}

fn copy(from: &Path, to: &Path, name: &str) -> anyhow::Result<()> {
    fs::create_dir(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let file = entry.file_name();
        let (source, target) = (entry.path(), to.join(&file));
        if NOT_COPIED.iter().any(|n| file == *n) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            copy(&source, &target, name)?;
        } else {
            let text =
                fs::read_to_string(&source).with_context(|| format!("cannot read {}", source.display()))?;
            fs::write(&target, renamed(&text, name))
                .with_context(|| format!("cannot write {}", target.display()))?;
        }
    }
    Ok(())
}

/// The template's text under the new name: `template`, `Template` and `TEMPLATE`, each in its own case.
fn renamed(text: &str, name: &str) -> String {
    let snake = name.replace('-', "_");
    let camel: String = name
        .split('-')
        .map(|part| {
            let mut chars = part.chars();
            chars.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(chars).collect::<String>()
        })
        .collect();
    text.replace("examples/connector-template", &format!("connector-{name}"))
        .replace("connector-template", &format!("connector-{name}"))
        .replace("connector_template", &format!("connector_{snake}"))
        .replace("Template", &camel)
        .replace("TEMPLATE", &snake.to_ascii_uppercase())
        .replace("template", name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let template = root.path().join("examples/connector-template");
        fs::create_dir_all(template.join("src")).unwrap();
        fs::write(template.join("Cargo.toml"), "name = \"connector-template\"\n").unwrap();
        fs::write(
            template.join("src/lib.rs"),
            "use connector_template::Template;\nconst NAME: &str = \"template\";\n",
        )
        .unwrap();
        root
    }

    #[test]
    fn copies_under_the_new_name() {
        let root = workspace();
        run(root.path(), "my-emr").unwrap();
        let made = root.path().join("connector-my-emr");
        assert_eq!(fs::read_to_string(made.join("Cargo.toml")).unwrap(), "name = \"connector-my-emr\"\n");
        assert_eq!(
            fs::read_to_string(made.join("src/lib.rs")).unwrap(),
            "use connector_my_emr::MyEmr;\nconst NAME: &str = \"my-emr\";\n"
        );
    }

    #[test]
    fn refuses_names_and_leaves_what_is_there() {
        let root = workspace();
        run(root.path(), "demo").unwrap();
        for name in ["demo", "", "Demo", "../x", "a b", "9x", "x-", "x--y", "core", "template"] {
            assert!(run(root.path(), name).is_err(), "{name:?}");
        }
    }
}
