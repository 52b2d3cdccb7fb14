//! etcd is stopped for a while.

use crate::makers::{self, NO_ROOM};
use crate::part::{Outage, works};
use crate::reader::{LINES, Reader};
use crate::stage::Stage;
use crate::support::Case;

pub(crate) const CASES: &[Case] = &[
    ("etcd::abuse_stopped_for_20_s_during_creates", creates),
    ("etcd::abuse_stopped_for_20_s_under_a_terminal", terminal),
];

const SECONDS: u32 = 20;

fn creates() {
    let stage = Stage::with(NO_ROOM);
    let made = makers::during(&stage, || Outage::of("etcd", SECONDS, &stage).ends());
    makers::each_is_there_once(&stage, &made);
    drop(stage);
    works(&mut Stage::new());
}

/// Nothing of a terminal is in etcd: nobody notices.
fn terminal() {
    let mut stage = Stage::new();
    let mut terminal = stage.shell("new");
    let writer = stage.weaver("", LINES);
    let mut reader = Reader::new(&stage, &writer);
    reader.until("line 40.");
    let outage = Outage::of("etcd", SECONDS, &stage);
    terminal.send("for n in 1 2 3 4 5 6 7; do sleep 3; echo beat''$n.; done\r");
    terminal.sees("\nbeat6.");
    terminal.send("echo go''on\r");
    outage.ends();
    terminal.sees("\ngoon");
    stage.ok(&format!("exec {writer} -- touch /tmp/stop"), &[]);
    reader.until("\nall ");
    reader.has_all();
    terminal.send("\x04");
    assert_eq!(terminal.end(), 0);
    works(&mut stage);
}
