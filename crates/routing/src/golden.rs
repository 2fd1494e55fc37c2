//! Compares hashes and placements with what twemproxy computed, as recorded in `testdata`.
//!
//! Every file there whose name begins with `hash_vectors` or `placement_vectors` is read, and every
//! case in it is checked. Invariant: a file without cases, or with a case that is not understood,
//! fails.

use std::fmt::Write;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::distribution::ketama;
use crate::{
    DistributionKind, HashKind, HashTag, Member, Placement, PlacementOptions, Point, name_order,
};

#[test]
fn hashes_are_twemproxys() {
    for (file, root) in files("hash_vectors") {
        let names = array(&root["algorithms"]);
        assert!(!names.is_empty(), "{file} names no hash");
        for vector in cases(&file, &root["vectors"]) {
            let key = unhex(text(&vector["hex"]));
            let about = format!("{file}, key {}", text(&vector["desc"]));
            assert_eq!(key.len() as u64, number(&vector["len"]), "{about}");
            for name in names.iter().map(text) {
                let kind = HashKind::from_name(name).unwrap_or_else(|| panic!("no hash {name}"));
                let hash = u64::from(kind.hash(&key));
                assert_eq!(hash, number(&vector["hash"][name]), "{name} of {about}");
                if let Some(unsigned) = vector["hash_if_char_unsigned"].get(name) {
                    assert_ne!(hash, number(unsigned), "{name} of {about}");
                }
            }
            let hashed = vector["hash"].as_object().expect("an object of hashes");
            assert_eq!(hashed.len(), names.len(), "{about}: hashes not in `algorithms`");
        }
    }
}

#[test]
fn points_of_ketama_are_twemproxys() {
    for (file, root) in files("hash_vectors") {
        for vector in cases(&file, &root["ketama_point_vectors"]) {
            let string = text(&vector["string"]);
            let expected: Vec<u64> = array(&vector["u32"]).iter().map(number).collect();
            let points = ketama::point_values(string.as_bytes());
            assert_eq!(points.map(u64::from).as_slice(), expected, "{file}, {string}");
        }
    }
}

#[test]
fn placements_are_twemproxys() {
    for (file, root) in files("placement_vectors") {
        let keys: Vec<Vec<u8>> =
            cases(&file, &root["keys_hex"]).iter().map(|hex| unhex(text(hex))).collect();
        for config in cases(&file, &root["configs"]) {
            let about = format!("{file}, {}", text(&config["id"]));
            check_config(&about, config, &keys);
        }
    }
}

/// The reader above is only as good as its understanding of what a file may say.
#[test]
fn a_pool_is_read_as_twemproxy_reads_it() {
    let (options, members) = parse_pool(
        "p:\n  listen: 127.0.0.1:1\n  hash: md5\n  hash_tag: \"{}\"\n  distribution: modula\n  \
         servers:\n   - /run/a.sock:3\n   - '::1:06379:1'\n  - h:11211:2\n  - h:1:4 n:a\n",
    );
    let expected = PlacementOptions {
        hash: HashKind::Md5,
        distribution: DistributionKind::Modula,
        hash_tag: Some(HashTag::new(b'{', b'}')),
    };
    assert_eq!(options, expected);
    let members: Vec<(&str, u32)> = members.iter().map(|m| (m.name.as_str(), m.weight)).collect();
    assert_eq!(members, [("h", 2), ("n:a", 4), ("::1:06379", 1), ("/run/a.sock:", 3)]);
}

/// One configuration: with all members live, with each of its ejections, and with all live again.
fn check_config(about: &str, config: &Value, keys: &[Vec<u8>]) {
    let (options, members) = parse_pool(text(&config["yaml"]));
    let servers = array(&config["servers_in_index_order"]);
    assert_eq!(servers.len(), members.len(), "{about}");
    for (index, (server, member)) in servers.iter().zip(&members).enumerate() {
        assert_eq!(number(&server["index"]), index as u64, "{about}");
        assert_eq!(text(&server["name"]), member.name, "{about}");
        assert_eq!(number(&server["weight"]), u64::from(member.weight), "{about}");
    }
    let mut placement = Placement::new(options, members, 1);
    let points: Vec<u64> = servers.iter().map(|server| number(&server["points"])).collect();
    let check = |about: &str, case: &Value, points: &[u64], placement: &mut Placement| {
        check_points(about, case, points, options.distribution, placement);
        check_keys(about, case, keys, options.distribution, placement);
    };
    check(about, config, &points, &mut placement);
    for ejection in config.get("ejected").map(array).unwrap_or_default() {
        let ejected: Vec<u64> = array(&ejection["ejected_indexes"]).iter().map(number).collect();
        assert!(!ejected.is_empty(), "{about}: an ejection of no server");
        let live: Vec<bool> =
            (0..servers.len() as u64).map(|index| !ejected.contains(&index)).collect();
        placement.rebuild(&live);
        let points: Vec<u64> = array(&ejection["points"]).iter().map(number).collect();
        check(&format!("{about} without {ejected:?}"), ejection, &points, &mut placement);
        placement.rebuild(&vec![true; servers.len()]);
    }
    check(&format!("{about} after all ejections"), config, &points, &mut placement);
}

fn check_points(
    about: &str,
    case: &Value,
    points: &[u64],
    distribution: DistributionKind,
    placement: &Placement,
) {
    let continuum = as_twemproxy_holds_it(distribution, placement.points());
    assert_eq!(continuum.len() as u64, number(&case["ncontinuum"]), "{about}");
    let mut counts = vec![0; placement.members().len()];
    continuum.iter().for_each(|&(_, index)| counts[index as usize] += 1);
    assert_eq!(counts, points, "{about}");
    if let Some(sha256) = case.get("ring_sha256") {
        assert_eq!(sha256_of_lines(&continuum), text(sha256), "{about}");
    }
    let pairs = |value: &Value| -> Vec<(u32, u32)> {
        let pair = |pair: &Value| (number(&pair[0]) as u32, number(&pair[1]) as u32);
        array(value).iter().map(pair).collect()
    };
    if let Some(first) = case.get("ring_first").map(pairs) {
        assert!(continuum.starts_with(&first), "{about}: first points");
    }
    if let Some(last) = case.get("ring_last").map(pairs) {
        assert!(continuum.ends_with(&last), "{about}: last points");
    }
    if let Some(has_equals) = case.get("ring_has_duplicate_values").and_then(Value::as_bool) {
        let is_equal = |pair: &[(u32, u32)]| pair[0].0 == pair[1].0;
        assert_eq!(continuum.windows(2).any(is_equal), has_equals, "{about}: equal values");
    }
}

fn check_keys(
    about: &str,
    case: &Value,
    keys: &[Vec<u8>],
    distribution: DistributionKind,
    placement: &mut Placement,
) {
    let servers = array(&case["placement"]);
    assert_eq!(servers.len(), keys.len(), "{about}: one server for each key");
    for (key, expected) in keys.iter().zip(servers) {
        let chosen = placement.server_for(key);
        // Draws of `random` can't be compared, only that there is a server or none.
        if distribution == DistributionKind::Random {
            assert_eq!(chosen.is_some(), expected.is_string(), "{about}, key {key:02x?}");
            continue;
        }
        let name = chosen.map(|index| placement.members()[index].name.as_str());
        assert_eq!(name, expected.as_str(), "{about}, key {key:02x?}");
    }
}

/// The (value, index) pairs that twemproxy would hold. For `modula` these are one element of value
/// 0 for each remainder, where we hold one point for each member.
fn as_twemproxy_holds_it(distribution: DistributionKind, points: &[Point]) -> Vec<(u32, u32)> {
    if distribution != DistributionKind::Modula {
        return points.iter().map(|point| (point.value, point.server_index)).collect();
    }
    let mut elements = Vec::new();
    for point in points {
        elements.resize(point.value as usize + 1, (0, point.server_index));
    }
    elements
}

/// SHA-256, in hexadecimal, of one line for each point: value, space, index.
fn sha256_of_lines(continuum: &[(u32, u32)]) -> String {
    let mut lines = String::new();
    for (value, index) in continuum {
        writeln!(lines, "{value} {index}").expect("a String takes every write");
    }
    Sha256::digest(lines).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The options and members of the one pool in a configuration file. Only the lines that bear on
/// placement are read.
fn parse_pool(yaml: &str) -> (PlacementOptions, Vec<Member>) {
    let mut options = PlacementOptions {
        hash: HashKind::Fnv1a_64,
        distribution: DistributionKind::Ketama,
        hash_tag: None,
    };
    let mut members = Vec::new();
    for line in yaml.lines().map(str::trim) {
        if let Some(server) = line.strip_prefix("- ") {
            members.push(parse_server(unquote(server)));
            continue;
        }
        let (key, value) = line.split_once(':').unwrap_or((line, ""));
        match (key.trim(), unquote(value)) {
            ("hash", name) => options.hash = HashKind::from_name(name).expect(name),
            ("distribution", name) => {
                options.distribution = DistributionKind::from_name(name).expect(name);
            }
            ("hash_tag", tag) => match *tag.as_bytes() {
                [open, close] => options.hash_tag = Some(HashTag::new(open, close)),
                _ => panic!("a tag of two bytes: {tag}"),
            },
            _ => {}
        }
    }
    members.sort_by(|a, b| name_order(&a.name, &b.name));
    (options, members)
}

/// `address:weight` or `address:weight name`, and the effective name that follows from it.
fn parse_server(entry: &str) -> Member {
    let (address_and_weight, name) = match entry.rsplit_once(' ') {
        Some((rest, name)) => (rest, Some(name.to_owned())),
        None => (entry, None),
    };
    let (address, weight) = address_and_weight.rsplit_once(':').expect("a weight");
    let name = name.unwrap_or_else(|| match address.strip_suffix(":11211") {
        _ if address.starts_with('/') => format!("{address}:"),
        Some(host) => host.to_owned(),
        None => address.to_owned(),
    });
    Member { name, weight: weight.parse().expect("a weight is a number") }
}

fn unquote(scalar: &str) -> &str {
    let scalar = scalar.trim();
    ['"', '\'']
        .iter()
        .find_map(|&quote| scalar.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(scalar)
}

/// The name and content of every file of that kind in `testdata`, of which there is at least one.
fn files(kind: &str) -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder).expect("testdata exists") {
        let path = entry.expect("testdata can be listed").path();
        let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
        if name.starts_with(kind) && name.ends_with(".json") {
            let content = std::fs::read_to_string(&path).expect("the file can be read");
            files.push((name, serde_json::from_str(&content).expect("the file is JSON")));
        }
    }
    assert!(!files.is_empty(), "no {kind}*.json in {}", folder.display());
    files
}

/// The cases of a list that must have some.
fn cases<'json>(file: &str, list: &'json Value) -> &'json [Value] {
    let cases = array(list);
    assert!(!cases.is_empty(), "{file} holds an empty list of cases");
    cases
}

fn array(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("an array, not {value}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("a string, not {value}"))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("a number, not {value}"))
}

fn unhex(hex: &str) -> Vec<u8> {
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    assert!(rest.is_empty(), "whole bytes: {hex}");
    let digit = |digit: u8| (digit as char).to_digit(16).expect("a hexadecimal digit") as u8;
    pairs.iter().map(|&[high, low]| digit(high) << 4 | digit(low)).collect()
}
