//! Pauses of flows with waiting messages: the age of a message counts from the end of the last pause.
//!
//! Each gateway records what it reads in `flows`, and several may record the same. Every statement is idempotent. If two
//! gateways have read different versions of a row, the next sweep corrects the pause.

use std::collections::HashMap;

use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, FromQueryResult, QueryFilter, QuerySelect, QueryTrait};

use mqtt_gateway_entity::outbox_pauses::{Column, Entity};

use super::{Outbox, positive};
use crate::domain::message::FlowId;
use crate::domain::outbox_work::{Destination, FlowDestination, Pause};
use crate::store::error::{StoreError, While};

const RECORDING: &str = "recording the pauses of flows";

#[derive(Debug, FromQueryResult)]
struct PauseRow {
    flow_id: i64,
    /// NULL while the pause lasts.
    resumed_in_us: Option<i64>,
}

#[derive(Debug, FromQueryResult)]
struct PausedFlowRow {
    flow_id: i64,
}

impl Outbox {
    /// Begins or ends the pauses of flows by their destinations, and forgets flows without waiting messages.
    pub async fn record_pauses(&self, destinations: &[FlowDestination]) -> Result<(), StoreError> {
        let known = self.pauses(None).await?;
        for FlowDestination { flow, destination, .. } in destinations {
            let is_paused = known.get(flow) == Some(&Pause::Ongoing);
            match destination {
                Destination::OnHold(_) if !is_paused => self.begin_pause(*flow).await?,
                Destination::Url(_) if is_paused => self.end_pause(*flow).await?,
                Destination::OnHold(_) | Destination::Url(_) | Destination::Deleted => {}
            }
        }
        let waits = |flow: &FlowId| destinations.iter().any(|found| found.flow == *flow);
        if known.keys().all(waits) { Ok(()) } else { self.forget_pauses().await }
    }

    /// The last pause of each flow, or of one flow.
    pub async fn pauses(&self, of: Option<FlowId>) -> Result<HashMap<FlowId, Pause>, StoreError> {
        let rows = Entity::find()
            .select_only()
            .column(Column::FlowId)
            .column_as(Expr::cust(self.database.dialect.micros_until("resumed_at")), "resumed_in_us")
            .apply_if(of, |rows, flow| rows.filter(Column::FlowId.eq(flow)))
            .into_model::<PauseRow>()
            .all(&self.database.connection)
            .await
            .while_doing("reading the pauses of flows")?;
        let pause = |row: PauseRow| match row.resumed_in_us {
            Some(micros) => Pause::Ended { ago: positive(micros.saturating_neg()) },
            None => Pause::Ongoing,
        };
        Ok(rows.into_iter().map(|row| (row.flow_id, pause(row))).collect())
    }

    async fn begin_pause(&self, flow: FlowId) -> Result<(), StoreError> {
        let (dialect, on) = (self.database.dialect, &self.database.connection);
        let row = format!("VALUES (?, {})", dialect.now());
        let insert = dialect.insert_unless_there("outbox_pauses (flow_id, paused_at)", &row);
        self.execute(on, insert, [flow.into()]).await.while_doing(RECORDING)?;
        let again = format!(
            "UPDATE outbox_pauses SET paused_at = {}, resumed_at = NULL WHERE flow_id = ? AND resumed_at IS NOT NULL",
            dialect.now()
        );
        self.execute(on, again, [flow.into()]).await.while_doing(RECORDING)?;
        Ok(())
    }

    async fn end_pause(&self, flow: FlowId) -> Result<(), StoreError> {
        let end = format!(
            "UPDATE outbox_pauses SET resumed_at = {} WHERE flow_id = ? AND resumed_at IS NULL",
            self.database.dialect.now()
        );
        self.execute(&self.database.connection, end, [flow.into()]).await.while_doing(RECORDING)?;
        Ok(())
    }

    /// Reads the flows first: a deletion that reads `outbox` would lock rows of it. The owners lead to the index of
    /// `outbox`; a claim gives each of them a lease.
    async fn forget_pauses(&self) -> Result<(), StoreError> {
        let idle = "SELECT flow_id FROM outbox_pauses AS p WHERE NOT EXISTS \
                    (SELECT 1 FROM outbox_owners AS w JOIN outbox AS o ON o.owner = w.owner WHERE o.flow_id = p.flow_id)";
        let idle = self.statement(idle.to_owned(), []);
        let on = &self.database.connection;
        let idle = PausedFlowRow::find_by_statement(idle).all(on).await.while_doing(RECORDING)?;
        let idle = idle.into_iter().map(|row| row.flow_id);
        Entity::delete_many().filter(Column::FlowId.is_in(idle)).exec(on).await.while_doing(RECORDING)?;
        Ok(())
    }
}
