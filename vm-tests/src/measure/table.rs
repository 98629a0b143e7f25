//! The figures for people: a table, with what is to be reached.

use std::fmt::Write;

use crate::Figures;
use crate::api::Load;

/// A row: what, how much, and what it may be.
#[derive(Clone)]
struct Row {
    what: String,
    value: String,
    goal: Option<Goal>,
}

#[derive(Clone, Copy)]
struct Goal {
    text: &'static str,
    is_met: bool,
}

fn row(what: impl Into<String>, value: String) -> Row {
    Row { what: what.into(), value, goal: None }
}

fn bounded(row: Row, value: f64, most: f64, text: &'static str) -> Row {
    Row { goal: Some(Goal { text, is_met: value <= most }), ..row }
}

fn at_least(row: Row, value: f64, least: f64, text: &'static str) -> Row {
    Row { goal: Some(Goal { text, is_met: value >= least }), ..row }
}

/// All figures.
pub fn of(figures: &Figures) -> String {
    let rows = [image(figures), builds(figures), boots(figures), memory(figures), api(figures)];
    let rows = [rows.concat(), upgrade(figures)].concat();
    let width = rows.iter().map(|row| row.what.chars().count()).max().unwrap_or_default();
    let mut table = format!(
        "medians of {} runs; {} processors, load at the start {}\n",
        figures.runs, figures.host_processors, figures.host_load
    );
    for Row { what, value, goal } in rows {
        let goal = goal.map_or_else(String::new, |goal| {
            format!("   {} {}", goal.text, if goal.is_met { "✓" } else { "MISSED" })
        });
        let padding = width - what.chars().count();
        let _ = writeln!(table, "{what}{:padding$}  {value:>24}{goal}", "");
    }
    table
}

fn image(figures: &Figures) -> Vec<Row> {
    let Some(sizes) = &figures.image else { return vec![] };
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let size = |what: &str, bytes: u64| row(what, format!("{:.1} MB", mb(bytes)));
    let compressed = format!("image, zstd -{}", sizes.compression_level);
    vec![
        size("image, apparent", sizes.apparent),
        size("image, allocated", sizes.allocated),
        bounded(size(&compressed, sizes.compressed), mb(sizes.compressed), 45.0, "≤ 45 MB"),
        size("root file system", sizes.root),
        size("UKI", sizes.uki),
        row("files in the root", sizes.files.to_string()),
        row("packages in the root", sizes.packages.to_string()),
    ]
}

fn builds(figures: &Figures) -> Vec<Row> {
    let Some(builds) = &figures.build else { return vec![] };
    let warm = row("build, warm", took(builds.warm));
    let no_op = row("build, nothing to do", took(builds.no_op));
    let mut rows = vec![
        bounded(warm, builds.warm.wall_s, 10.0, "≤ 10 s"),
        bounded(no_op, builds.no_op.wall_s, 0.3, "≤ 0.3 s"),
    ];
    if let Some(in_checkout) = builds.no_op_in_checkout {
        rows.push(row("build, nothing to do, cargo asked", took(in_checkout)));
    }
    if let Some(cold) = &builds.cold {
        rows.push(row("lock and fetch, empty store", took(cold.lock_and_fetch)));
        rows.push(row("build after it", took(cold.build)));
    }
    rows
}

fn boots(figures: &Figures) -> Vec<Row> {
    let mut rows = vec![];
    for boot in &figures.boot {
        let kernel = format!("{:.2} s", boot.kernel_starts_wall_s);
        rows.push(row(format!("boot, {}: kernel starts", boot.way), kernel));
        for phase in &boot.phases {
            let what = format!("boot, {}: {}", boot.way, phase.name);
            rows.push(row(what, took(phase.since_start)));
        }
        let reply = row(format!("boot, {}: stream reply", boot.way), took(boot.reply));
        rows.push(match boot.way {
            "direct" => bounded(reply, boot.reply.cpu_s, 9.0, "≤ 9 CPU-s"),
            _ => reply,
        });
        rows.push(row(format!("boot, {}: the API is in step", boot.way), took(boot.api)));
    }
    rows
}

fn memory(figures: &Figures) -> Vec<Row> {
    let mib = |kib: u64| format!("{:.1} MiB", kib as f64 / 1024.0);
    let rows = figures.memory.iter().flat_map(|used| {
        let machine = used.machine_mib;
        let taken =
            row(format!("memory, total − free − cached, of {machine} MiB"), mib(used.used_kib));
        let taken = match machine {
            1024 => bounded(taken, used.used_kib as f64 * 1024.0, 48e6, "≤ 48 MB"),
            _ => taken,
        };
        let unavailable =
            row(format!("memory, total − available, of {machine} MiB"), mib(used.unavailable_kib));
        let init = row(format!("resident, stele-init, of {machine} MiB"), mib(used.init_kib));
        let services = used.services.iter().map(move |service| {
            let row =
                row(format!("resident, {}, of {machine} MiB", service.name), mib(service.kib));
            match service.name.as_str() {
                "pod-api" | "front" => bounded(row, service.kib as f64 * 1024.0, 12e6, "≤ 12 MB"),
                _ => row,
            }
        });
        [taken, unavailable, init].into_iter().chain(services).collect::<Vec<_>>()
    });
    let smallest = figures
        .smallest_memory_mib
        .map(|least| row("smallest memory that it serves with", format!("{least} MiB")));
    rows.chain(smallest).collect()
}

fn api(figures: &Figures) -> Vec<Row> {
    let Some(api) = &figures.api else { return vec![] };
    let mib = |kib: u64| format!("{:.1} MiB", kib as f64 / 1024.0);
    let rate = |what: &str, load: &Load| {
        let cpu = format!("{:.0} /s ({:.0} CPU-µs)", load.per_second, load.cpu_us);
        row(format!("API, {what}"), cpu)
    };
    let late = |what: &str, load: &Load| {
        let ms = format!("{:.2} / {:.2} ms", load.p50_ms, load.p99_ms);
        row(format!("API, {what}: p50 / p99"), ms)
    };
    let (members, version, hello) = (&api.members, &api.version, &api.hello);
    let share = hello.per_second / version.per_second;
    let api_mb = api.api_kib as f64 * 1024.0 / 1e6;
    vec![
        at_least(rate("40 members", members), members.per_second, 5000.0, "≥ 5000 /s"),
        bounded(late("40 members", members), members.p99_ms, 10.0, "≤ 10 ms"),
        rate("bare hyper", hello),
        bounded(rate("version", version), share, 2.0, "≥ bare hyper / 2"),
        rate("version, by the front", &api.version_by_front),
        late("version, by the front", &api.version_by_front),
        bounded(row("resident, pod-api, after it", mib(api.api_kib)), api_mb, 20.0, "≤ 20 MB"),
        row("resident, front, after it", mib(api.front_kib)),
        bounded(
            row("API, start to first answer", format!("{:.0} ms", api.first_answer_ms)),
            api.first_answer_ms,
            100.0,
            "≤ 100 ms",
        ),
    ]
}

fn upgrade(figures: &Figures) -> Vec<Row> {
    let Some(upgrade) = &figures.upgrade else { return vec![] };
    let seconds = |what: &str, value: f64| row(format!("upgrade, {what}"), format!("{value:.1} s"));
    let installer_mib = upgrade.installer_kib as f64 / 1024.0;
    vec![
        row("upgrade, sent", format!("{:.1} MB", upgrade.bundle as f64 / 1e6)),
        seconds("start to armed", upgrade.armed_s),
        seconds("start to blessed", upgrade.blessed_s),
        seconds("without XMPP", upgrade.down_s),
        row("upgrade, peak resident of stele-install", format!("{installer_mib:.1} MiB")),
    ]
}

fn took(took: crate::Took) -> String {
    format!("{:.2} s ({:.2} CPU-s)", took.wall_s, took.cpu_s)
}
