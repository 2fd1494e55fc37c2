//! What is under `packaging/`, held against the tree and the program: names, paths and options.
//!
//! Not a build of a package, which takes tools that a test can't ask for.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::Path;

use support::process::{TempDir, repository, weir};

const DOCUMENTS: &str = "/usr/share/doc/weir/";

fn packaged(name: &str) -> String {
    fs::read_to_string(repository().join("packaging").join(name)).unwrap()
}

/// The values of a key of the unit.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    let of_key = |line: &'a str| line.strip_prefix(key)?.strip_prefix('=');
    unit.lines().filter_map(of_key).collect()
}

#[test]
fn the_commands_of_the_unit_and_of_the_image_are_understood() {
    let folder = TempDir::new();
    let file = folder.join("weir.yml");
    fs::write(&file, "alpha:\n  listen: 127.0.0.1:1\n  servers:\n   - 127.0.0.1:2:1\n").unwrap();
    let unit = packaged("weir.service");
    let mut commands: Vec<String> = ["ExecStartPre", "ExecStart"]
        .iter()
        .flat_map(|key| values(&unit, key))
        .map(String::from)
        .collect();
    let image = packaged("Dockerfile");
    let words = image.lines().find_map(|line| line.strip_prefix("CMD ")).unwrap();
    let words: Vec<String> = serde_json::from_str(words).unwrap();
    commands.push(format!("/usr/bin/weir {}", words.join(" ")));
    assert_eq!(commands.len(), 3);
    for command in commands {
        let words = command.strip_prefix("/usr/bin/weir ").unwrap();
        let words = words.replace("/etc/weir/weir.yml", file.to_str().unwrap());
        // Understood before anything is checked.
        let output = weir().args(words.split(' ')).arg("-t").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{command}: {output:?}");
    }
}

#[test]
fn the_package_installs_files_that_are_there_under_the_names_that_are_told() {
    let (rules, unit) = (packaged("debian/rules"), packaged("weir.service"));
    let installed = rules.split(&[' ', '\t', '\n'][..]).filter(|word| {
        ["docs/", "configs/", "packaging/"].iter().any(|folder| word.starts_with(folder))
    });
    let names: Vec<&str> = installed
        .inspect(|path| assert!(repository().join(path).is_file(), "{path}"))
        .map(|path| Path::new(path).file_name().unwrap().to_str().unwrap())
        .collect();
    for document in values(&unit, "Documentation") {
        let name = document.strip_prefix("file://").unwrap().strip_prefix(DOCUMENTS).unwrap();
        assert!(names.contains(&name), "{document} is not installed");
        let extension = name.rsplit('.').next().unwrap();
        assert!(rules.contains(&format!("-X.{extension}")), "{document} would be compressed");
    }
    let stays = rules.contains("--no-stop-on-upgrade") && !rules.contains("--no-start");
    assert!(stays, "an upgrade would end the service, or the removal of the package would not");
}

/// A worker that panics ends the process, as the manual says, and the manager starts it again.
#[test]
fn a_panic_ends_what_is_shipped_and_the_unit_starts_it_again() {
    let manifest = fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    let (_, release) = manifest.split_once("[profile.release]\n").unwrap();
    let release = release.split("\n[").next().unwrap();
    assert!(release.lines().any(|line| line == r#"panic = "abort""#), "{release}");
    assert_eq!(values(&packaged("weir.service"), "Restart"), ["on-failure"]);
}

#[test]
fn the_package_has_the_version_of_the_program() {
    let changelog = packaged("debian/changelog");
    let wanted = format!("weir ({}) ", env!("CARGO_PKG_VERSION"));
    assert!(changelog.starts_with(&wanted), "{changelog}");
}
