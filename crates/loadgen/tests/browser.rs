//! The HTML reports in a real browser: what a reader sees, as pixels.
//!
//! It looks at a screenshot and not at the file, since a style sheet can make every line and label
//! of a correct file invisible. It needs chromium, which `make setup` installs.

#![allow(clippy::unwrap_used)]

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use base::Address;
use loadgen::commands::args::{GeneratorArgs, ReportArgs};
use loadgen::commands::run::measure;
use loadgen::commands::serve::{Running, start};
use loadgen::engine::{BaseChoice, RunOptions};
use loadgen::report::html;
use loadgen::server::{Delay, ServerOptions};
use loadgen::summary::Summary;
use loadgen::workload::Settings;
use protocol::Protocol;

const WIDTH: usize = 1000;
const HEIGHT: usize = 2200;

/// A picture as red, green and blue bytes.
struct Picture {
    width: usize,
    bytes: Vec<u8>,
}

impl Picture {
    /// Reads the one form of PNG that the browser writes: 8 bits, colours with or without alpha,
    /// not interlaced.
    fn read(png: &[u8]) -> Picture {
        assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"), "not a PNG");
        let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap()) as usize;
        let (width, height) = (number(16), number(20));
        let channels = match (png[24], png[25], png[28]) {
            (8, 2, 0) => 3,
            (8, 6, 0) => 4,
            other => panic!("a PNG of another form: {other:?}"),
        };
        let mut packed = Vec::new();
        let mut at = 8;
        while at + 12 <= png.len() {
            let size = number(at);
            if &png[at + 4..at + 8] == b"IDAT" {
                packed.extend_from_slice(&png[at + 8..at + 8 + size]);
            }
            at += size + 12;
        }
        let mut lines = Vec::new();
        flate2::read::ZlibDecoder::new(packed.as_slice()).read_to_end(&mut lines).unwrap();
        let stride = width * channels;
        assert_eq!(lines.len(), (stride + 1) * height);
        let mut above = vec![0u8; stride];
        let mut bytes = Vec::with_capacity(width * height * 3);
        for line in lines.chunks_exact(stride + 1) {
            let mut line_bytes = line[1..].to_vec();
            for x in 0..stride {
                let left = if x < channels { 0 } else { line_bytes[x - channels] };
                let corner = if x < channels { 0 } else { above[x - channels] };
                let predicted = match line[0] {
                    0 => 0,
                    1 => left,
                    2 => above[x],
                    3 => ((u16::from(left) + u16::from(above[x])) / 2) as u8,
                    _ => paeth(left, above[x], corner),
                };
                line_bytes[x] = line_bytes[x].wrapping_add(predicted);
            }
            for pixel in line_bytes.chunks_exact(channels) {
                bytes.extend_from_slice(&pixel[..3]);
            }
            above = line_bytes;
        }
        Picture { width, bytes }
    }

    /// In how many columns of the picture a colour, or one close to it, occurs.
    fn columns_with(&self, colour: [u8; 3]) -> usize {
        let near = |pixel: &[u8]| pixel.iter().zip(colour).all(|(&a, b)| a.abs_diff(b) <= 24);
        let has = |x: usize| {
            self.bytes.chunks_exact(self.width * 3).any(|line| near(&line[x * 3..x * 3 + 3]))
        };
        (0..self.width).filter(|&x| has(x)).count()
    }
}

fn paeth(left: u8, up: u8, corner: u8) -> u8 {
    let (a, b, c) = (i16::from(left), i16::from(up), i16::from(corner));
    let estimate = a + b - c;
    let (to_a, to_b, to_c) = ((estimate - a).abs(), (estimate - b).abs(), (estimate - c).abs());
    match () {
        () if to_a <= to_b && to_a <= to_c => left,
        () if to_b <= to_c => up,
        () => corner,
    }
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("weir-bench-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A screenshot of a page. What the page says on the browser's console is a failure.
fn look_at(page: &Path) -> Picture {
    let folder = page.parent().unwrap();
    let png = folder.join("page.png");
    // A browser that hangs must not hang the tests.
    let output = Command::new("timeout")
        .args(["--kill-after=5", "180", "chromium"])
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
        .args(["--disable-dev-shm-usage", "--enable-logging=stderr"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg(format!("--window-size={WIDTH},{HEIGHT}"))
        .arg(format!("--screenshot={}", png.display()))
        .arg(format!("file://{}", page.display()))
        .stdin(Stdio::null())
        .output()
        .expect("`timeout` is part of every system");
    let said = String::from_utf8_lossy(&output.stderr);
    let missing = output.status.code() == Some(127);
    assert!(!missing, "chromium is needed: run make setup");
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("CONSOLE"), "the page complains: {said}");
    Picture::read(&std::fs::read(&png).unwrap_or_else(|_| panic!("no screenshot: {said}")))
}

fn null_server() -> Running {
    let options =
        ServerOptions { protocol: Protocol::Redis, null_value_size: Some(100), delay: Delay::None };
    let any = Address::Inet(([127, 0, 0, 1], 0).into());
    start(&any, options, BaseChoice::Auto, Arc::new(AtomicBool::new(false))).unwrap()
}

fn measured(server: &Running, text: &str, report: &ReportArgs) -> Summary {
    let settings = Settings::parse(&format!(
        "{text}\nduration_s = 1\nwarmup_s = 0\ntimeout_ms = 60000\nprefill = false\n\
         verify = 'off'",
    ));
    let generator = GeneratorArgs {
        event_base: BaseChoice::Auto,
        spin: false,
        cpus: Vec::new(),
        interval: 0.2,
        agents: Vec::new(),
        quiet: true,
    };
    let mut options = RunOptions::new(server.address.clone());
    options.interval = Duration::from_secs_f64(generator.interval);
    measure(&settings.unwrap(), &options, &generator, report).unwrap().summary
}

const BLUE: [u8; 3] = [0x17, 0x69, 0xaa];
const ORANGE: [u8; 3] = [0xc2, 0x57, 0x0c];
const GREEN: [u8; 3] = [0x1b, 0x7f, 0x4b];
const RED: [u8; 3] = [0xb3, 0x26, 0x1e];

/// A line of a plot goes through more than half of the page's columns, which no label does.
fn assert_plotted(picture: &Picture, colours: &[(&str, [u8; 3])]) {
    for &(name, colour) in colours {
        let columns = picture.columns_with(colour);
        assert!(columns > WIDTH / 2, "{name} lines cross {columns} of {WIDTH} columns");
    }
}

#[test]
fn a_browser_plots_the_report_of_a_run() {
    let folder = folder("browser-run");
    let server = null_server();
    let page = folder.join("report.html");
    let report = ReportArgs { html: Some(page.clone()), ..ReportArgs::default() };
    measured(&server, "rate = 6000", &report);
    server.end().unwrap();
    let picture = look_at(&page);
    assert_plotted(&picture, &[("blue", BLUE), ("orange", ORANGE), ("green", GREEN), ("red", RED)]);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_browser_plots_a_curve() {
    let folder = folder("browser-curve");
    let server = null_server();
    let runs: Vec<_> = [1500, 3000, 4500, 9000]
        .iter()
        .map(|rate| measured(&server, &format!("rate = {rate}"), &ReportArgs::default()))
        .collect();
    server.end().unwrap();
    let page = folder.join("curve.html");
    std::fs::write(&page, html::curve("test", &runs, None)).unwrap();
    let picture = look_at(&page);
    assert_plotted(&picture, &[("blue", BLUE), ("green", GREEN), ("red", RED)]);
    // The offered load, a broken line that lies on another; p99.9 has too few samples here.
    assert!(picture.columns_with(ORANGE) > WIDTH / 5);
    std::fs::remove_dir_all(&folder).unwrap();
}

/// The check itself can fail: a page without plots has no lines.
#[test]
fn a_page_without_plots_has_no_lines() {
    let folder = folder("browser-blank");
    let page = folder.join("blank.html");
    std::fs::write(&page, "<!doctype html><p style='color:#1769aa'>Nothing here.").unwrap();
    assert!(look_at(&page).columns_with(BLUE) < WIDTH / 2);
    std::fs::remove_dir_all(&folder).unwrap();
}
