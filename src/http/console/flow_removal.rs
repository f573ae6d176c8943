//! Removes a flow, after a question.

use actix_web::web::Data;

use super::charts::grouped;
use super::fields::link;
use super::flows::PART;
use super::links::flow_link;
use super::page::{ConsoleError, Page, SeeOther};
use super::question::Question;
use super::shell::shell_word;
use super::visitor::{Submission, Visitor};
use crate::domain::api_token::TokenScope;
use crate::http::api::thread::ApiThread;

/// Asks whether a flow is to be removed.
pub(super) async fn confirm(visitor: Visitor, thread: Data<ApiThread>) -> Result<Page, ConsoleError> {
    visitor.require(TokenScope::Admin)?;
    let code = visitor.query.get("code").to_owned();
    let frame = visitor.frame(PART, "Remove a flow");
    let page = thread.run(async move |control| {
        let (flow, waiting) = control.flow_with_posts(&code).await?;
        let question = Question {
            frame,
            part_name: "Flows",
            text: format!("Remove the flow {code}?"),
            consequence: consequence(waiting, flow.last_msg_id.unwrap_or_default()),
            target: "/flow/remove",
            button: "Remove".to_owned(),
            back: flow_link(&code),
            command: format!("mqtt-gateway flows remove {} --yes", shell_word(&code)),
            hidden: vec![("code", code)],
        };
        question.page()
    });
    Ok(page.await?)
}

fn consequence(waiting_posts: u64, last_msg_id: i64) -> String {
    let posts = match waiting_posts {
        0 => String::new(),
        1 => " A waiting post becomes a dead letter.".to_owned(),
        posts => format!(" {} waiting posts become dead letters.", grouped(posts)),
    };
    let last = grouped(last_msg_id.unsigned_abs());
    format!(
        "Its row is deleted, and its stored messages stay.{posts} Its last number is {last}; a new flow with the same \
         code goes on from there."
    )
}

/// Removes a flow.
pub(super) async fn remove(
    submission: Submission,
    thread: Data<ApiThread>,
) -> Result<SeeOther, ConsoleError> {
    let (visitor, fields) = submission.permitted(TokenScope::Admin)?;
    let removal = thread.run_as(&visitor.caller, async move |control| {
        let flow = control.flow(fields.get("code")).await?;
        Ok(control.remove_flows(std::slice::from_ref(&flow)).await?)
    });
    removal.await?;
    Ok(SeeOther(link(PART, [("done", "removed")])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consequence_counts_waiting_posts() {
        assert!(!consequence(0, 7).contains("post"));
        assert!(consequence(1, 7).contains("A waiting post becomes a dead letter. Its last number is 7;"));
        assert!(consequence(1_200, 7).contains("1,200 waiting posts"));
    }
}
