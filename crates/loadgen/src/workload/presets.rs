//! The workloads that ship with the program: the files of `configs/workloads`, compiled in.
//!
//! A new
//! file needs its name in the list. Invariant: each file is a good workload; a test carries all of
//! them out as far as the plan.

use super::Settings;

macro_rules! presets {
    ($($name:literal),* $(,)?) => {
        /// Names and texts.
        const PRESETS: &[(&str, &str)] = &[$((
            $name,
            include_str!(concat!("../../../../configs/workloads/", $name, ".toml")),
        )),*];
    };
}

#[rustfmt::skip]
presets![
    "counter", "fb-app", "fb-etc", "fb-sys", "fb-usr", "fb-var", "feed-multiget", "hol",
    "hotset", "ping", "session", "tiny", "tw-01", "tw-02", "tw-03", "tw-04", "tw-06", "tw-07",
    "tw-08", "tw-09", "tw-10", "tw-11", "tw-12", "tw-13", "tw-14", "tw-15", "tw-16", "tw-17",
    "tw-18", "tw-19", "tw-20", "tw-21", "tw-22", "tw-23", "tw-24", "tw-25", "tw-26", "tw-27",
    "tw-28", "tw-29", "tw-30", "tw-31", "tw-32", "tw-33", "tw-34", "tw-35", "tw-36", "tw-37",
    "tw-38", "tw-39", "tw-40", "tw-41", "tw-42", "tw-43", "tw-44", "tw-45", "tw-46", "tw-47",
    "tw-48", "tw-49", "tw-50", "tw-51", "tw-52", "tw-53", "tw-54", "tw-median", "ycsb-a",
    "ycsb-b", "ycsb-c", "ycsb-d", "ycsb-e", "ycsb-f",
];

/// The text of a preset.
pub fn find(name: &str) -> Option<&'static str> {
    PRESETS.iter().find(|preset| preset.0 == name).map(|preset| preset.1)
}

/// Names and descriptions, in order.
pub fn list() -> impl Iterator<Item = (&'static str, String)> {
    PRESETS.iter().map(|(name, text)| {
        let description = Settings::parse(text).map(|settings| settings.description);
        (*name, description.unwrap_or_default())
    })
}

/// Settings by the name of a preset or of a file.
pub fn load(name: &str) -> Result<Settings, String> {
    if let Some(text) = find(name) {
        return Settings::parse(text).map_err(|error| format!("preset {name}: {error}"));
    }
    match std::fs::read_to_string(name) {
        Ok(text) => Settings::parse(&text).map_err(|error| format!("{name}: {error}")),
        Err(error) => Err(format!(
            "{name}: {error}, and no preset has this name (`weir-bench presets` lists them)"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Plan;

    #[test]
    fn every_preset_is_a_good_workload_and_says_what_it_is() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/workloads");
        let files = std::fs::read_dir(folder).expect("it ships").count();
        assert_eq!(PRESETS.len(), files, "a file is not listed");
        for (name, text) in PRESETS {
            let settings = load(name).expect(name);
            assert_eq!(settings.name, *name);
            assert!(!settings.description.is_empty(), "{name}");
            assert!(text.starts_with('#'), "{name} begins with a comment");
            Plan::new(&settings, 0).expect(name);
        }
        for name in ["fb-etc", "fb-usr", "fb-app", "fb-var", "fb-sys", "ycsb-a", "ycsb-f", "tw-54"]
        {
            assert!(find(name).is_some(), "{name}");
        }
        assert!(load("no-such-preset").is_err());
    }
}
