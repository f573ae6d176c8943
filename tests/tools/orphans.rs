//! A gateway that a demo or a measurement has started ends with it, also after `kill -9`.

use std::fs;
use std::process::{Child, Command, Stdio};

use test_support::eventually;

/// Ids of the processes that this one has started as its gateways.
fn gateways_of(parent: u32) -> Vec<u32> {
    let wanted = format!("\0--parent\0{parent}\0");
    let ids =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    ids.filter(|id: &u32| {
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&wanted)
    })
    .collect()
}

fn dies_with_its_gateway(mut parent: Child) {
    let id = parent.id();
    eventually("the gateway", || (gateways_of(id).len() == 1).then_some(()));
    parent.kill().unwrap();
    parent.wait().unwrap();
    eventually("the end of the gateway", || gateways_of(id).is_empty().then_some(()));
}

fn program(command: &str) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_mqtt-gateway"));
    program.arg(command).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    program
}

#[test]
fn killed_bench_ends_its_gateway() {
    let arguments = ["--rate", "50", "--messages", "100000", "--no-limits"];
    dies_with_its_gateway(program("bench").args(arguments).spawn().unwrap());
}

#[test]
fn killed_demo_ends_its_gateway() {
    let dir = tempfile::tempdir().unwrap();
    let mut demo = program("demo");
    demo.args(["--port", "0", "--dir"]).arg(dir.path()).env("ADMIN_BIND", "off");
    dies_with_its_gateway(demo.spawn().unwrap());
}

#[test]
fn gateway_whose_parent_has_ended_does_not_start() {
    let mut ended = Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    let output =
        program("bench-gateway").args(["--parent", &ended.id().to_string()]).stderr(Stdio::piped()).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("the process that started this gateway has ended"), "{text}");
}
