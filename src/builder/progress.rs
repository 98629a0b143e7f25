//! What a person sees while something takes long: bars on a terminal, lines elsewhere, nothing
//! when a machine reads.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::quantity::Size;

/// Tells how the work goes, on standard error.
#[derive(Debug)]
pub struct Progress {
    manner: Manner,
    bar: ProgressBar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Silent,
    Lines,
    Bars,
}

impl Progress {
    /// `quiet`: for machines.
    pub fn new(quiet: bool) -> Progress {
        let manner = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Manner::Silent,
            (false, false) => Manner::Lines,
            (false, true) => Manner::Bars,
        };
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if manner != Manner::Bars {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        Progress { manner, bar }
    }

    /// Something of unknown length begins.
    pub fn step(&self, what: &str) {
        match self.manner {
            Manner::Silent => {}
            Manner::Lines => eprintln!("{what} …"),
            Manner::Bars => {
                self.bar.set_style(ProgressStyle::default_spinner());
                self.bar.set_message(format!("{what} …"));
                self.bar.enable_steady_tick(Duration::from_millis(120));
            }
        }
    }

    /// `bytes` bytes are to be gone through.
    pub fn start(&self, what: &str, bytes: u64) {
        match self.manner {
            Manner::Silent => {}
            Manner::Lines => eprintln!("{what}, {} …", Size(bytes)),
            Manner::Bars => {
                let template = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}";
                let style = ProgressStyle::with_template(template);
                self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                self.bar.set_message(what.to_owned());
                self.bar.reset();
                self.bar.set_length(bytes);
            }
        }
    }

    /// So many more bytes are done.
    pub fn advance(&self, bytes: u64) {
        if self.manner == Manner::Bars {
            self.bar.inc(bytes);
        }
    }

    /// All bytes are done, or none will be.
    pub fn finish(&self) {
        self.bar.set_position(0);
        self.bar.unset_length();
    }

    /// The end of what moves.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
