//! What the READMEs show is what the binary takes: their configuration passes `check --offline`, their commands are
//! commands of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The fenced blocks of one language in a document.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(workspace().join(document)).unwrap();
    let opening = format!("```{language}\n");
    text.split(&opening).skip(1).map(|rest| rest.split("\n```").next().unwrap().to_owned()).collect()
}

/// Carries a shown command out on a shown configuration, in a folder of its own.
fn carry_out(configuration: &str, command: &[&str], more: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    // An id of the site's own stands between angle brackets.
    let filled = configuration
        .replace("<place id>", "a-place")
        .replace("<location uuid>", "a1111111-0000-4000-8000-000000000001");
    std::fs::write(folder.path().join("connector.yaml"), filled).unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_connector-openmrs"));
    run.current_dir(folder.path()).args(command).args(more);
    run.env_clear().env("CHT_PASSWORD", "secret").env("OPENMRS_PASSWORD", "secret").output().unwrap()
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

/// Lines of the shown console sessions that run the binary, without its name.
fn commands(document: &str) -> Vec<String> {
    let blocks = blocks(document, "console").join("\n");
    blocks.lines().filter_map(|line| line.strip_prefix("connector-openmrs ")).map(str::to_owned).collect()
}

#[test]
fn the_configuration_of_the_readme_is_taken_as_it_stands() {
    let [configuration] = blocks("README.md", "yaml").try_into().unwrap();
    assert_eq!(configuration.lines().count(), 5, "five lines are promised");
    let output = carry_out(&configuration, &["check", "--offline"], &[]);
    assert!(output.status.success(), "{}", said(&output));
    // It is looked at: with a word misspelt it is refused, by path.
    let output = carry_out(&configuration.replace("place:", "plaice:"), &["check", "--offline"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("bridges[0].cht.plaice"), "{}", said(&output));
}

#[test]
fn the_commands_of_the_readme_are_commands_of_the_binary() {
    let [configuration] = blocks("README.md", "yaml").try_into().unwrap();
    let commands = commands("README.md");
    assert!(commands.len() >= 2, "{commands:?}");
    for command in commands {
        let words: Vec<&str> = command.split_whitespace().collect();
        // Nobody answers there: what is to be seen is whether the call itself is understood.
        let output = carry_out(&configuration, &words, &["--help"]);
        assert!(output.status.success(), "{command}: {}", said(&output));
    }
}
