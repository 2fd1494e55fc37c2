//! `--watch`: looks at the configuration file now and then, and tells when it is another.
//!
//! It looks at the file's status only, once a second, which works on every file system and for
//! every way to change a file: written over, replaced by a rename, or by another target of a link.
//! Invariant: each change is told once, and not before the file has rested for a look, so that one
//! that is being written is not read by half.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often it looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// What tells one content of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// `None` when there is no file at the moment, as between the two steps of some editors.
    fn of(file: &Path) -> Option<Stamp> {
        let found = std::fs::metadata(file).ok()?;
        Some(Stamp {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

/// A file that is watched.
pub(crate) struct Watch {
    file: PathBuf,
    /// As it was when it was told of last.
    known: Option<Stamp>,
    /// As it was at the last look.
    seen: Option<Stamp>,
}

impl Watch {
    /// To be called before the file is read for the first time: a change in between is told.
    pub(crate) fn new(file: &Path) -> Watch {
        let stamp = Stamp::of(file);
        Watch { file: file.to_owned(), known: stamp, seen: stamp }
    }

    /// Looks from now on, on a thread of its own, and calls `tell` for each change until that gives
    /// `false`.
    pub(crate) fn start(mut self, tell: impl Fn() -> bool + Send + 'static) {
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(INTERVAL);
                if self.look() && !tell() {
                    return;
                }
            }
        });
    }

    /// Whether there is a change to be told.
    fn look(&mut self) -> bool {
        let before = self.seen;
        self.seen = Stamp::of(&self.file);
        let rests = self.seen.is_some() && self.seen == before;
        let is_news = rests && self.seen != self.known;
        if is_news {
            self.known = self.seen;
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::fs;

    fn looks(watch: &mut Watch) -> [bool; 3] {
        std::array::from_fn(|_| watch.look())
    }

    #[test]
    fn each_change_is_told_once_however_it_was_made() {
        let folder = std::env::temp_dir().join(format!("weir-watch-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (file, other) = (folder.join("weir.yml"), folder.join("other"));
        fs::write(&file, "one").unwrap();
        let mut watch = Watch::new(&file);
        assert_eq!(looks(&mut watch), [false; 3]);
        fs::write(&file, "longer").unwrap();
        assert_eq!(looks(&mut watch), [false, true, false]);
        fs::write(&other, "longer").unwrap();
        fs::rename(&other, &file).unwrap();
        assert_eq!(looks(&mut watch), [false, true, false]);
        // Still being written at each look, then done.
        for size in 1..4 {
            fs::write(&file, "x".repeat(size)).unwrap();
            assert!(!watch.look());
        }
        assert_eq!(looks(&mut watch), [true, false, false]);
        fs::remove_file(&file).unwrap();
        assert_eq!(looks(&mut watch), [false; 3]);
        fs::write(&other, "linked").unwrap();
        std::os::unix::fs::symlink(&other, &file).unwrap();
        assert_eq!(looks(&mut watch), [false, true, false]);
        fs::write(&other, "behind the link").unwrap();
        assert_eq!(looks(&mut watch), [false, true, false]);
        fs::remove_dir_all(&folder).unwrap();
    }
}
