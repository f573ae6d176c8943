//! `mqtt-gateway flows test FILE`: runs the tests of a file of flows.

use serde_json::json;

use super::as_code::located_lines;
use super::rehearse::TestOptions;
use crate::cli::input::{FileArgument, file_argument};
use crate::cli::output::{CommandReport, visible};
use crate::control::{ControlError, FileTestResult, check_file, run_file_tests};
use crate::domain::flow_file::{FileProblem, FlowFile};
use crate::domain::posting::address_guard::EndpointNetworks;

/// Runs the tests of a file.
pub(super) async fn run(options: &TestOptions) -> Result<CommandReport, ControlError> {
    let FileArgument { name, text } = file_argument(options.only_file()?)?;
    let file = match FlowFile::parse(&text) {
        Ok(file) => file,
        Err(problems) => return Ok(unusable(&name, &problems)),
    };
    let problems = check_file(&file, &EndpointNetworks::All);
    if problems.iter().any(FileProblem::is_error) {
        return Ok(unusable(&name, &problems));
    }
    let results = run_file_tests(&file).await?;
    let ok = results.iter().all(|result| result.ok);
    Ok(CommandReport { text: text_of(&name, &results), document: json!({"ok": ok, "tests": results}), ok })
}

fn unusable(file: &str, problems: &[FileProblem]) -> CommandReport {
    let document = json!({"ok": false, "problems": problems});
    CommandReport { text: located_lines(file, problems), document, ok: false }
}

fn text_of(file: &str, results: &[FileTestResult]) -> String {
    let failed = results.iter().filter(|result| !result.ok).count();
    let mut lines: Vec<String> = results.iter().map(|result| lines_of(file, result)).collect();
    lines.push(match (results.len(), failed) {
        (0, _) => format!("{} has no tests.\n", visible(file)),
        (1, 0) => "1 test passed.\n".to_owned(),
        (count, 0) => format!("{count} tests passed.\n"),
        (count, failed) => format!("{failed} of {count} tests failed.\n"),
    });
    lines.concat()
}

fn lines_of(file: &str, FileTestResult { name, at, flow, ok, differences }: &FileTestResult) -> String {
    let (name, flow) = (visible(name), visible(flow));
    if *ok {
        return format!("ok    {name} ({flow})\n");
    }
    let line = |difference: &String| format!("      {}\n", visible(difference));
    let differences = differences.iter().map(line).collect::<Vec<_>>().concat();
    format!("FAIL  {name} ({flow}), {}:{at}\n{differences}", visible(file))
}
