//! Which crate may depend on which, read from the manifests.
//!
//! It reads only the keys of dependency tables, not versions or features. Invariant: a crate that
//! the table below does not name may neither exist nor be depended upon.

use crate::{Rule, Tree, Violation, scanner};

/// Each crate and the crates of this workspace that it may know, in layers from below. What a
/// crate's tests use counts as well, except for the tests of `weir`, which run the whole program.
///
/// `base` holds the words that all share, so everyone may know it. Beyond what the architecture
/// draws, `config` and `loadgen` may name a protocol.
pub const EDGES: &[(&str, &[&str])] = &[
    // Layer 0: no domain word.
    ("base", &[]),
    // Layer 1: pure, except `event`, which alone talks to the kernel about connections.
    ("protocol", &["base"]),
    ("routing", &["base"]),
    ("event", &["base"]),
    // Layer 2: pure.
    ("proxy", &["base", "protocol", "routing"]),
    ("embedded", &["base", "protocol"]),
    // Layer 3.
    ("runtime", &["base", "event", "proxy"]),
    ("config", &["base", "protocol", "routing", "event", "proxy"]),
    ("loadgen", &["base", "protocol", "event", "embedded"]),
    // Layer 4: the binary.
    ("weir", &["base", "config", "runtime", "embedded"]),
    // Never shipped. The simulation knows everything below the binary; this crate only reads files.
    (
        "sim",
        &[
            "base", "protocol", "routing", "event", "proxy", "embedded", "runtime", "config",
            "loadgen",
        ],
    ),
    ("tidy", &[]),
];

/// Where the event base and the proxy core may meet. `config` sees both only to fill in their
/// options; [`check`] sees to it that it does not name the event base itself.
pub const MEETING_PLACES: &[&str] = &["runtime", "sim", "config"];

/// Crates that may depend on serde: those that read or write files and reports. A core that could
/// serialise its state would soon be tied to how it looks on disk. Tests of any crate may read
/// their vectors with it.
pub const SERDE_USERS: &[&str] = &["config", "loadgen", "runtime", "weir"];

/// A dependency as a manifest names it.
#[derive(Debug, PartialEq, Eq)]
struct Dependency {
    line: usize,
    name: String,
    for_tests: bool,
}

/// Edges that are not in the table, meetings of `event` and `proxy`, and users of serde.
pub fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (path, text) in &tree.texts {
        let Some(name) = path.strip_prefix("crates/").and_then(|p| p.strip_suffix("/Cargo.toml"))
        else {
            continue;
        };
        let mut broken = |line, item: &str, rule, message| {
            let (path, item) = (path.clone(), item.to_owned());
            violations.push(Violation { rule, path, line, item, message });
        };
        let Some((_, allowed)) = EDGES.iter().find(|(known, _)| *known == name) else {
            broken(1, name, Rule::Edges, format!("`{name}` has no row in the table of edges"));
            continue;
        };
        let found = dependencies(text);
        for Dependency { line, name: to, for_tests } in &found {
            let free = *for_tests && name == "weir";
            let ours = EDGES.iter().any(|(known, _)| known == to);
            // A crate that depends on itself does so to turn a feature on for its tests.
            if ours && !free && to != name && !allowed.contains(&to.as_str()) {
                broken(*line, to, Rule::Edges, format!("`{name}` must not know `{to}`"));
            }
            let serde = !for_tests && to.split(['_', '-']).next() == Some("serde");
            if serde && !SERDE_USERS.contains(&name) {
                broken(*line, to, Rule::Serde, format!("`{name}` must not use serde"));
            }
        }
        let knows =
            |to| found.iter().any(|one| one.name == to && !(one.for_tests && name == "weir"));
        if knows("event") && knows("proxy") && !MEETING_PLACES.contains(&name) {
            let message = format!("`event` and `proxy` meet in {MEETING_PLACES:?} only");
            broken(1, "event", Rule::Edges, message);
        }
    }
    violations.extend(event_base_in_config(tree));
    violations
}

/// `config` knows the event base's options and nothing else of it.
fn event_base_in_config(tree: &Tree) -> Vec<Violation> {
    let config = tree.sources.values().filter(|source| source.crate_name() == "config");
    let found = config.flat_map(|source| {
        scanner::word_starts(&source.code, "EventBase").into_iter().map(move |offset| {
            let message = "`config` may name options of `event` only".to_owned();
            source.violation(Rule::Edges, offset, "EventBase", message)
        })
    });
    found.collect()
}

/// The dependencies of a manifest: keys of `[dependencies]` and its kin, and tables of their own
/// such as `[dev-dependencies.name]`.
fn dependencies(manifest: &str) -> Vec<Dependency> {
    let mut found = Vec::new();
    let mut table: Option<bool> = None; // In a table of dependencies; `true` if they are for tests.
    let mut depth = 0; // Of arrays and inline tables that are spread over lines.
    for (index, text) in manifest.lines().enumerate() {
        let text = text.split('#').next().unwrap_or("").trim();
        let line = index + 1;
        if depth == 0 && text.starts_with('[') {
            let header = text.trim_matches(['[', ']']);
            let last = header.rsplit('.').next().unwrap_or("");
            let kind = |part: &str| match part {
                "dependencies" | "build-dependencies" => Some(false),
                "dev-dependencies" => Some(true),
                _ => None,
            };
            table = kind(last);
            let parent = header.strip_suffix(last).and_then(|rest| rest.strip_suffix('.'));
            let parent = parent.and_then(|rest| kind(rest.rsplit('.').next().unwrap_or("")));
            if let Some(for_tests) = parent {
                found.push(Dependency { line, name: last.trim_matches('"').to_owned(), for_tests });
            }
            continue;
        }
        if let (Some(for_tests), 0, Some((key, value))) = (table, depth, text.split_once('=')) {
            let key = key.split('.').next().unwrap_or("").trim().trim_matches('"');
            // A renamed dependency is what it is, not what it is called.
            let package = value.split_once("package").and_then(|(_, rest)| rest.split('"').nth(1));
            let name = package.unwrap_or(key).to_owned();
            found.push(Dependency { line, name, for_tests });
        }
        depth += text.matches(['[', '{']).count();
        depth = depth.saturating_sub(text.matches([']', '}']).count());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(files: &[(&str, &str)]) -> Vec<String> {
        check(&Tree::of(files)).into_iter().map(|violation| violation.message).collect()
    }

    #[test]
    fn every_way_to_write_a_dependency_is_read() {
        let manifest = "[package]\nname = \"x\"\n\n[dependencies]\na.workspace = true\n\
            b = { path = \"../b\", features = [\n    \"k\",\n] }\n# c = \"1\"\n\
            d = { package = \"e\", version = \"1\" }\n[dev-dependencies]\nf = \"1\" # why\n\
            [target.'cfg(unix)'.dependencies]\ng = \"1\"\n[build-dependencies.h]\nversion = \"1\"\n\
            [features]\ni = []\n";
        let found = dependencies(manifest);
        let names: Vec<_> = found.iter().map(|one| (one.name.as_str(), one.for_tests)).collect();
        let want =
            [("a", false), ("b", false), ("e", false), ("f", true), ("g", false), ("h", false)];
        assert_eq!(names, want);
        assert_eq!(found[0].line, 5);
    }

    #[test]
    fn an_edge_that_is_not_in_the_table_is_told() {
        let upward = [("crates/proxy/Cargo.toml", "[dependencies]\nruntime.workspace = true\n")];
        assert_eq!(messages(&upward), ["`proxy` must not know `runtime`"]);
        let in_tests = [("crates/routing/Cargo.toml", "[dev-dependencies]\nprotocol = \"1\"\n")];
        assert_eq!(messages(&in_tests), ["`routing` must not know `protocol`"]);
        let unknown = [("crates/utils/Cargo.toml", "")];
        assert_eq!(messages(&unknown), ["`utils` has no row in the table of edges"]);
    }

    #[test]
    fn edges_in_the_table_and_the_tests_of_weir_are_free() {
        let files = [
            ("crates/proxy/Cargo.toml", "[dependencies]\nrouting = \"1\"\nmemchr = \"1\"\n"),
            ("crates/event/Cargo.toml", "[dev-dependencies]\nevent = { path = \".\" }\n"),
            ("crates/weir/Cargo.toml", "[dev-dependencies]\nevent = \"1\"\nproxy = \"1\"\n"),
        ];
        assert_eq!(messages(&files), [""; 0]);
    }

    #[test]
    fn event_and_proxy_meet_in_few_places() {
        let manifest = "[dependencies]\nevent = \"1\"\nproxy = \"1\"\n";
        assert_eq!(messages(&[("crates/runtime/Cargo.toml", manifest)]), [""; 0]);
        let found = messages(&[("crates/loadgen/Cargo.toml", manifest)]);
        assert_eq!(found.len(), 2);
        assert!(found[1].starts_with("`event` and `proxy` meet in"));
        let config = [("crates/config/src/lib.rs", "use event::EventBase;")];
        assert_eq!(messages(&config), ["`config` may name options of `event` only"]);
    }

    #[test]
    fn serde_stays_out_of_the_core() {
        for name in ["serde", "serde_json", "serde-saphyr"] {
            let manifest = format!("[dependencies]\n{name} = \"1\"\n");
            let found = messages(&[("crates/proxy/Cargo.toml", &manifest)]);
            assert_eq!(found, ["`proxy` must not use serde"]);
            assert_eq!(messages(&[("crates/config/Cargo.toml", &manifest)]), [""; 0]);
            let for_tests = manifest.replace("dep", "dev-dep");
            assert_eq!(messages(&[("crates/proxy/Cargo.toml", &for_tests)]), [""; 0]);
        }
    }
}
