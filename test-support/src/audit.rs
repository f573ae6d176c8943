//! The program's own verdict over tables and inbox: `mqtt-gateway audit`.

use serde_json::Value;

use super::world::{World, text_of};

/// Output and exit code of the program.
pub struct Audit {
    pub report: Value,
    pub code: Option<i32>,
}

impl Audit {
    /// The findings as "wrong gap of F"; without "of" where they are about no flow.
    pub fn findings(&self) -> Vec<String> {
        let findings = self.report["findings"].as_array().unwrap();
        findings
            .iter()
            .map(|finding| {
                let of = finding["flow"].as_str().map(|flow| format!(" of {flow}")).unwrap_or_default();
                let word = |key: &str| finding[key].as_str().unwrap();
                format!("{} {}{of}", word("severity"), word("kind"))
            })
            .collect()
    }
}

impl World {
    /// Audits and asserts that nothing is wrong. Returns the doubtful findings.
    pub fn audit(&self) -> Vec<String> {
        let audit = self.audit_with(&[]);
        assert_eq!(audit.code, Some(0), "{:#}", audit.report["findings"]);
        audit.findings()
    }

    pub fn audit_with(&self, arguments: &[&str]) -> Audit {
        let output = self.command(&[&["audit", "--json"], arguments].concat());
        let report =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text_of(&output)));
        Audit { report, code: output.status.code() }
    }
}
