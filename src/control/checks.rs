//! Checks flows as they are in the table.

use super::endpoint::EndpointRoute;
use super::{Control, ControlError};
use crate::delivery::client::check_options;
use crate::domain::flow::{FLOW_ACTION_POST_ENDPOINT, endpoint_url};
use crate::domain::flow_check::{FlowSet, check_flow};
use crate::domain::flow_definition::{FlowDefinition, FlowRecord};
use crate::domain::flow_options::FlowOptions;
use crate::domain::problem::Problem;

/// A flow and its problems.
#[derive(Debug)]
pub struct CheckedFlow {
    /// The row.
    pub flow: FlowRecord,
    /// Errors first.
    pub problems: Vec<Problem>,
}

impl Control {
    /// Checks the flows with these codes, or all flows if there are none.
    pub async fn check_flows(&self, codes: &[String]) -> Result<Vec<CheckedFlow>, ControlError> {
        let flows = self.flows().await?;
        let chosen = match codes {
            [] => flows.iter().collect(),
            codes => {
                codes.iter().map(|code| super::flows::find(&flows, code)).collect::<Result<Vec<_>, _>>()?
            }
        };
        let set = FlowSet::new(flows.iter().map(|flow| &flow.definition));
        let mut checked = Vec::new();
        for flow in chosen {
            let problems = self.problems(&flow.definition, &set).await;
            checked.push(CheckedFlow { flow: flow.clone(), problems });
        }
        Ok(checked)
    }

    /// The problems of a flow, also those that only the resolution of names shows.
    pub(super) async fn problems(&self, flow: &FlowDefinition, set: &FlowSet<'_>) -> Vec<Problem> {
        let mut problems = check_flow(flow, set, &self.settings.http_route.networks);
        if problems.iter().all(|problem| problem.field != "endpoint_url") {
            problems.extend(self.resolve_endpoint(flow).await);
        }
        problems.extend(self.try_options(flow));
        problems
    }

    /// Reads the secrets and files of the options. A gateway elsewhere may have others, so this is a warning.
    fn try_options(&self, flow: &FlowDefinition) -> Option<Problem> {
        let error = check_options(&post_options(flow)?.delivery, &self.settings.http_route).err()?;
        let remedy = "correct the options; a secret has to be readable where the gateway runs";
        Some(Problem::warning("options", format!("no post can be made from here: {error}"), remedy))
    }

    /// Resolves the name of the endpoint. A proxy resolves the names of its requests itself.
    async fn resolve_endpoint(&self, flow: &FlowDefinition) -> Option<Problem> {
        post_options(flow)?;
        let url = endpoint_url(flow.endpoint_url.as_deref()).ok()?;
        let host = url.domain()?;
        let route = EndpointRoute::resolve(&url, &self.settings.http_route).await;
        let warning = |problem: String, remedy| Some(Problem::warning("endpoint_url", problem, remedy));
        if let Some(problem) = route.problem {
            return warning(problem, "check the name, and the DNS of this machine");
        }
        let refused = route.addresses.into_iter().find_map(|address| address.refused)?;
        let remedy = "give another endpoint, or allow its network by ENDPOINT_NETWORKS";
        warning(format!("the name {host} leads to an address without posts: {refused}"), remedy)
    }
}

/// The options of a flow whose messages are posted.
fn post_options(flow: &FlowDefinition) -> Option<FlowOptions> {
    let options = FlowOptions::parse_for(&flow.action, flow.options.as_deref()).ok()?;
    Some(options).filter(|options| flow.action == FLOW_ACTION_POST_ENDPOINT || options.also_post)
}
