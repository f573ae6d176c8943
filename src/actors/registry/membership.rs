//! The gateway among the others: what it tells them, what it hears of them, and which flows are its own for now.
//!
//! A gateway alone tells nobody anything, unless it finds rows of others when it reads the flows.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::Level;

use crate::domain::flow::Flow;
use crate::domain::message::FlowId;
use crate::domain::replicas::{
    Dispute, Handover, Holders, Member, Role, ShareGroup, disputes, must_wait_for_others,
};
use crate::domain::routing_history::RoutingHistory;
use crate::domain::subscription_ids::Subscriptions;
use crate::domain::topic::TopicFilter;
use crate::inbox::{InboxError, SubscriptionBook};
use crate::store::{Database, Span, StoreError, announce, members};

/// Time between two looks at the others: several within the time for which a member counts as alive.
const LOOK: Duration = Duration::from_secs(3);

/// The same while flows are held for others or are left to them: they move within seconds.
const LOOK_IN_HANDOVER: Duration = Duration::from_secs(1);

/// While replicas are started one after the other they do not agree; after this time it is worth a warning.
const LASTING: Duration = Duration::from_mins(1);

/// How often a handover that goes on is told of.
const REMINDER: Duration = Duration::from_secs(30);

/// Flows that a line of the log names.
const NAMED: usize = 5;

/// This gateway among others; what the factory of the registry keeps.
#[derive(Debug, Clone)]
pub struct Replica {
    /// What it is.
    pub role: Role,
    /// The group that it is or was a member of.
    pub group: Option<ShareGroup>,
    /// The id of its inbox.
    pub inbox_id: Arc<str>,
    /// Its name at the broker.
    pub client_id: String,
    /// What it routes, also for the registries and the processes before this one.
    pub tables: Arc<Mutex<RoutingHistory>>,
    /// What the session at the broker may hold.
    pub book: Arc<Mutex<SubscriptionBook>>,
    /// Whether it lets go of its flows although nobody else has them.
    pub is_the_last: bool,
}

/// The flows as they were read last: all that are enabled, subscribed as this gateway subscribes them.
#[derive(Debug, Clone)]
struct Reading {
    flows: Vec<Flow>,
    span: Span,
}

#[derive(Debug, Clone)]
pub(super) struct Membership {
    replica: Replica,
    /// Whether it writes its row.
    takes_part: bool,
    others: Vec<Member>,
    reading: Option<Reading>,
    handover: Handover,
    /// How many flows that fall to it are left to others for now.
    waiting: usize,
    /// What it had when the process began; for one that goes for good.
    had_at_first: BTreeSet<FlowId>,
    /// All that falls to it and was there at this moment is subscribed.
    subscribed_at_us: Option<i64>,
    /// What the others were told last; none while they could not be told.
    told: Option<Member>,
    cannot_tell: bool,
    reminded: Instant,
    disputed: Vec<Dispute>,
    disputed_since: Instant,
    dispute_told: bool,
}

impl Membership {
    pub(super) fn new(replica: Replica) -> Self {
        let takes_part = replica.role != Role::ALONE;
        let now = Instant::now();
        Self {
            replica,
            takes_part,
            others: Vec::new(),
            reading: None,
            handover: Handover::default(),
            waiting: 0,
            had_at_first: BTreeSet::new(),
            subscribed_at_us: None,
            told: None,
            cannot_tell: false,
            reminded: now,
            disputed: Vec::new(),
            disputed_since: now,
            dispute_told: false,
        }
    }

    pub(super) fn role(&self) -> &Role {
        &self.replica.role
    }

    pub(super) fn takes_part(&self) -> bool {
        self.takes_part
    }

    pub(super) fn time_between_looks(&self) -> Duration {
        if self.is_moving_flows() { LOOK_IN_HANDOVER } else { LOOK }
    }

    // ---- what it tells and hears

    fn me(&self) -> Member {
        Member {
            inbox_id: self.replica.inbox_id.to_string(),
            client_id: self.replica.client_id.clone(),
            role: self.replica.role.clone(),
            subscribed_at_us: self.subscribed_at_us,
            handing_over_since_us: self.handover.since_us(),
            silent_for_us: 0,
        }
    }

    /// Whether the others should hear of something before the next look is due.
    pub(super) fn has_news(&self) -> bool {
        self.takes_part && !self.cannot_tell && self.told.as_ref() != Some(&self.me())
    }

    /// Tells the others how this one stands, and hears of them: how many there are or were. What cannot be done now is
    /// done at the next look.
    pub(super) async fn look(&mut self, database: &Database) -> Result<usize, StoreError> {
        let looked = self.try_to_look(database).await;
        let could_not = std::mem::replace(&mut self.cannot_tell, looked.is_err());
        if let Err(error) = &looked {
            // Once is enough, but for whoever wants to know all.
            let level = if could_not { Level::Debug } else { Level::Warn };
            log::log!(level, "Cannot tell the other gateways how this one stands, trying on: {error}");
        }
        looked
    }

    async fn try_to_look(&mut self, database: &Database) -> Result<usize, StoreError> {
        let me = self.me();
        if self.takes_part {
            announce(database, &me).await?;
            self.told = Some(me);
        }
        let all = members(database).await?;
        let is_other = |member: &Member| *member.inbox_id != *self.replica.inbox_id;
        let others: Vec<Member> = all.into_iter().filter(is_other).collect();
        self.tell_disputes(&others);
        let rows = others.len();
        // Gateways of one name have one session between them: what one has subscribed, the other takes with it.
        let client_id = &self.replica.client_id;
        self.others = others.into_iter().filter(|other| !other.is_named(client_id)).collect();
        Ok(rows)
    }

    /// Whether somebody holds flows for us that were not there when we read them last.
    pub(super) fn is_asked_to_read(&self) -> bool {
        let Some(read_at_us) = self.reading.as_ref().map(|reading| reading.span.from_us) else {
            return false;
        };
        let mut holding =
            self.others.iter().filter(|other| other.is_alive()).filter_map(|o| o.handing_over_since_us);
        holding.any(|since_us| since_us > read_at_us)
    }

    /// A gateway alone finds out whether it still is.
    pub(super) async fn look_whether_alone(&mut self, database: &Database) -> Result<usize, StoreError> {
        let others = self.look(database).await?;
        if !self.takes_part && others > 0 {
            self.takes_part = true;
            log::info!(others; "There are other gateways on this database: telling them of this one");
        }
        Ok(others)
    }

    // ---- which flows are its own

    pub(super) fn have_read(&mut self, mut flows: Vec<Flow>, span: Span) {
        for flow in &mut flows {
            flow.topic = self.replica.role.subscribes(&flow.topic);
        }
        self.reading = Some(Reading { flows, span });
    }

    /// The flows that are subscribed from now on, by what was read and heard; `before` are those so far, none at the
    /// beginning.
    pub(super) fn flows_in_force(&mut self, before: Option<&[Flow]>) -> Option<Vec<Flow>> {
        let reading = self.reading.as_ref()?;
        let had = match before {
            Some(before) => before.iter().map(|flow| flow.id).collect(),
            None => self.had_before_the_start(&reading.flows),
        };
        let holders = match before {
            // The first time nothing is let go: what is routed has to be known first.
            None => Holders::Members(&[]),
            Some(_) if self.replica.is_the_last => Holders::NotNeeded,
            Some(_) => Holders::Members(&self.others),
        };
        let (role, until_us) = (&self.replica.role, reading.span.until_us);
        let next = |holders| self.handover.next(role, &reading.flows, until_us, &had, holders);
        let (mut in_force, mut handover) = next(&holders);
        if *role == Role::Leaving && !handover.flows().is_empty() {
            // It keeps its session as it is, and lets go of all at once.
            (in_force, handover) = next(&Holders::Members(&[]));
        }
        let new: Vec<FlowId> =
            in_force.iter().map(|flow| flow.id).filter(|flow| !had.contains(flow)).collect();
        let waits = self.others_are_being_started() && must_wait_for_others(&new, role, &self.others);
        if waits {
            in_force.retain(|flow| had.contains(&flow.id));
        }
        self.tell_waiting(if waits { new.len() } else { 0 });
        if before.is_none() {
            self.had_at_first = had;
        }
        self.tell_progress(&handover);
        self.handover = handover;
        Some(in_force)
    }

    /// What this gateway routed when it was stopped, or may be in its session at the broker.
    fn had_before_the_start(&self, flows: &[Flow]) -> BTreeSet<FlowId> {
        let routed = self.replica.tables.lock().unwrap_or_else(PoisonError::into_inner).routed_last();
        let held = self.book().held();
        // One that goes for good and does not know what it had may have had any.
        let any = routed.is_none() && self.replica.role == Role::Leaving;
        // A topic tells nothing where it is known whose it was: another shard may have a flow of the same.
        let by_topic = |flow: &Flow| routed.is_none() && held.contains_key(&flow.topic);
        let known: BTreeSet<FlowId> =
            routed.iter().flatten().chain(held.values().flatten()).copied().collect();
        let had = flows.iter().filter(|flow| any || known.contains(&flow.id) || by_topic(flow));
        had.map(|flow| flow.id).collect()
    }

    fn book(&self) -> MutexGuard<'_, SubscriptionBook> {
        self.replica.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Flows of which nothing is subscribed any more, and whose messages are still routed: one that goes for good takes
    /// all that the broker has for it.
    pub(super) fn routed_beyond(&self, in_force: &[Flow]) -> Vec<Flow> {
        let (Role::Leaving, Some(reading)) = (&self.replica.role, &self.reading) else { return Vec::new() };
        let beyond = |flow: &&Flow| self.had_at_first.contains(&flow.id) && !in_force.contains(flow);
        reading.flows.iter().filter(beyond).cloned().collect()
    }

    /// What the session at this broker may hold.
    pub(super) fn held_at(&self, broker: &str) -> Result<Subscriptions, InboxError> {
        let mut book = self.book();
        book.come_to(broker)?;
        let held = book.held().into_iter();
        Ok(held.filter_map(|(filter, flows)| Some((TopicFilter::parse(&filter).ok()?, flows))).collect())
    }

    /// Whether anything tells what was ever subscribed.
    pub(super) fn has_book(&self) -> bool {
        !self.book().bindings().is_empty()
    }

    /// What the session of one that goes for good may hold although no book tells of it, because the book was lost with
    /// its inbox: every topic, in each form in which it may have been subscribed.
    pub(super) fn may_hold_without_a_book(&self) -> BTreeSet<TopicFilter> {
        let (Role::Leaving, Some(reading), false) = (&self.replica.role, &self.reading, self.has_book())
        else {
            return BTreeSet::new();
        };
        let member = self.replica.group.clone().map(Role::InGroup);
        let forms = |flow: &Flow| {
            let shared = member.as_ref().map(|member| member.subscribes(&flow.topic));
            shared.into_iter().chain([flow.topic.clone()])
        };
        let topics = reading.flows.iter().flat_map(forms);
        topics.filter_map(|topic| TopicFilter::parse(&topic).ok()).collect()
    }

    /// Whether flows are held for others or left to them.
    pub(super) fn is_moving_flows(&self) -> bool {
        !self.handover.flows().is_empty() || self.waiting > 0
    }

    /// Whether others are being started with settings that go with its own. A dispute that lasts is not waited for.
    fn others_are_being_started(&self) -> bool {
        !self.disputed.is_empty() && !self.dispute_told
    }

    /// Everything that was wanted by the last reading is subscribed, or it is not.
    pub(super) fn are_subscribed(&mut self, complete: bool) {
        let read_at_us = self.reading.as_ref().map(|reading| reading.span.from_us);
        self.subscribed_at_us = read_at_us.filter(|_| complete && self.waiting == 0);
    }

    // ---- what is logged

    fn tell_waiting(&mut self, flows: usize) {
        let before = std::mem::replace(&mut self.waiting, flows);
        if before == 0 && flows > 0 {
            log::info!(flows; "{flows} flows that fall to this gateway stay for now with gateways that divide them otherwise: it subscribes them when those have been started with its settings, or still have not after a minute");
        } else if before > 0 && flows == 0 {
            log::info!(flows = before; "{before} flows that others had are subscribed here from now on");
        }
    }

    fn tell_progress(&mut self, next: &Handover) {
        let (before, after) = (self.handover.flows().len(), next.flows().len());
        let others = self.others.iter().filter(|other| other.is_alive()).count();
        if before == 0 && after > 0 {
            let flows = named(next.flows());
            log::info!(flows = after, others; "Handing over {after} flows ({flows}): they stay subscribed here until others have subscribed them");
            self.reminded = Instant::now();
        } else if before > 0 && after == 0 {
            log::info!(flows = before; "Handover finished: others have subscribed all flows that are not of this gateway any more");
        } else if after < before {
            log::info!(flows = before - after, left = after; "Handed over {} flows, {after} are left", before - after);
            self.reminded = Instant::now();
        } else if after > 0 && self.reminded.elapsed() >= REMINDER {
            let flows = named(next.flows());
            log::warn!(flows = after, others; "Still handing over {after} flows ({flows}): no living gateway to which they fall has subscribed them");
            self.reminded = Instant::now();
        }
    }

    fn tell_disputes(&mut self, others: &[Member]) {
        let mut now = disputes(&self.replica.role, others);
        now.sort_unstable();
        if now != self.disputed {
            if self.dispute_told && now.is_empty() {
                log::info!("The gateways on this database agree again on who takes what");
            }
            self.disputed = now;
            self.disputed_since = Instant::now();
            self.dispute_told = false;
        }
        if !self.disputed.is_empty() && self.disputed_since.elapsed() >= lasting() {
            self.disputed_since = Instant::now();
            self.dispute_told = true;
            for dispute in self.disputed.iter().take(NAMED) {
                log::warn!("This gateway is {}, and {dispute}", self.replica.role);
            }
        }
    }
}

/// How long a dispute lasts that is worth a warning.
fn lasting() -> Duration {
    // Tests have less time.
    fail::fail_point!("dispute-lasts", |ms| {
        ms.and_then(|ms| ms.parse().ok()).map_or(LASTING, Duration::from_millis)
    });
    LASTING
}

/// The first of these flows by their codes.
fn named(flows: &[Flow]) -> String {
    let mut named: Vec<&str> = flows.iter().take(NAMED).map(|flow| flow.code.as_str()).collect();
    if flows.len() > NAMED {
        named.push("…");
    }
    named.join(", ")
}
