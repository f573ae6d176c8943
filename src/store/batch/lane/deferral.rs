//! Defers flows: the lane goes on without them.

use tokio::time::timeout;

use super::super::attempts::Attempts;
use super::super::failed::Failed;
use super::super::fence::LaneFenced;
use super::super::lagging::{DeferredFlow, defer_locked};
use super::super::progress::BatchStep;
use super::{LaneObserver, LaneStore, pause};
use crate::domain::batch::LaggingFlow;
use crate::store::dialect::Dialect;

impl LaneStore {
    /// Defers the flows whose rows are locked elsewhere. Returns whether that changed anything: not if something else
    /// was locked, if they are too many, or if the database fails.
    ///
    /// After a lost COMMIT the list of lagging flows is unknown, and the lane must be reopened.
    pub(super) async fn defer_locked(
        &mut self,
        attempts: &mut Attempts<'_>,
        step: &BatchStep,
        observer: &impl LaneObserver,
    ) -> Result<bool, LaneFenced> {
        let max = attempts.max_deferred();
        if max == 0 || self.database.dialect == Dialect::Sqlite {
            return Ok(false);
        }
        let flows = attempts.part(step, &self.lagging).flows();
        let deferring = defer_locked(&self.database, self.row(), step.expected.lane, &flows, max);
        let written = timeout(self.transaction_timeout, deferring).await.ok();
        let Some(flows) = self.resolve_deferral(attempts, step, written, observer).await? else {
            return Ok(false);
        };
        for (lagging, code) in flows {
            self.waits.defer(lagging.flow);
            observer.deferred(lagging, &code);
        }
        Ok(true)
    }

    /// Evaluates an attempt to defer flows; `None` is a timeout. Returns the flows that lag from now on, with their
    /// codes, or `None` if nothing has changed.
    pub(super) async fn resolve_deferral(
        &mut self,
        attempts: &mut Attempts<'_>,
        step: &BatchStep,
        written: Option<Result<Vec<DeferredFlow>, Failed>>,
        observer: &impl LaneObserver,
    ) -> Result<Option<Vec<(LaggingFlow, String)>>, LaneFenced> {
        let lane = step.expected.lane;
        let Some(written) = written else {
            let error = self.reconnect_after_timeout();
            pause(&error, attempts.progress.failed(), observer).await;
            return Err(LaneFenced(lane));
        };
        match written {
            Ok(flows) if flows.is_empty() => Ok(None),
            Ok(flows) => {
                let lag = |flow: DeferredFlow| {
                    let lagging = LaggingFlow { flow: flow.id, next_offset: lane.next_offset };
                    (lagging, flow.code)
                };
                let flows: Vec<_> = flows.into_iter().map(lag).collect();
                self.lagging.extend(flows.iter().map(|(lagging, _)| lagging.flow));
                attempts.outcome.deferred.extend(flows.iter().map(|(lagging, _)| *lagging));
                Ok(Some(flows))
            }
            Err(Failed::Fenced(found)) => {
                let (step, outcome) = attempts.resolve(found)?;
                self.committed(attempts, &step, outcome, observer);
                Ok(Some(Vec::new()))
            }
            Err(Failed::Unknown(error, _)) => {
                pause(&error, attempts.progress.failed(), observer).await;
                Err(LaneFenced(lane))
            }
            Err(Failed::Error(_) | Failed::StillLocked) => Ok(None),
        }
    }
}
