//! Health and metrics, asked of the real binary as a probe or Prometheus would.

mod figures;
mod hostile;
mod life;
mod port;

use std::net::SocketAddr;

use test_support::eventually;
use test_support::http::{get, scrape};

/// Waits until a probe of this path answers so.
fn wait_for(address: SocketAddr, path: &str, status: u16) {
    eventually(&format!("{status} of {path}"), || (get(address, path).status == status).then_some(()));
}

/// Waits until a series has this value.
fn wait_for_value(address: SocketAddr, series: &str, value: f64) {
    eventually(&format!("{series} {value}"), || (scrape(address).get(series) == Some(&value)).then_some(()));
}

/// The words for why it is not ready.
fn reasons(address: SocketAddr) -> Vec<String> {
    let answer = get(address, "/health/ready").json();
    let reasons = answer["reasons"].as_array().unwrap();
    reasons.iter().map(|reason| reason["reason"].as_str().unwrap().to_owned()).collect()
}
