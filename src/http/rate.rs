//! How fast requests are answered, whoever asks: the processor belongs to the messages.
//!
//! Nobody is refused: a request that comes too early waits for its turn. A connection has one request in hand at a
//! time, so a turn is never further away than there can be connections: those whose clients were gone before their turn
//! came are not waited for.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, rt};

use super::connections::MOST_CONNECTIONS;

/// Time between two turns in the long run. Probes and scrapes need a few turns in a second, and a processor makes some
/// sixteen times as many.
const BETWEEN: Duration = Duration::from_millis(1);

/// Turns that may be taken at once by those who come after a pause.
const AT_ONCE: u32 = 100;

/// As many turns as there can be connections.
const FURTHEST: Duration = BETWEEN.saturating_mul(MOST_CONNECTIONS as u32);

/// Gives out turns.
#[derive(Debug, Default)]
pub(super) struct Rate {
    /// When the last turn is that was given out; none if nobody has asked yet.
    last: Mutex<Option<Instant>>,
}

impl Rate {
    /// Takes the next turn; answers how long it is until then.
    fn take(&self, now: Instant) -> Duration {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // What was not used in a pause is kept, up to a bound.
        let earliest = now.checked_sub(BETWEEN * AT_ONCE).unwrap_or(now);
        let turn = last.map_or(earliest, |last| last.max(earliest) + BETWEEN).min(now + FURTHEST);
        *last = Some(turn);
        turn.saturating_duration_since(now)
    }
}

/// Lets a request wait for its turn.
pub(super) async fn in_turn<B: MessageBody>(
    rate: Data<Rate>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let wait = rate.take(Instant::now());
    if !wait.is_zero() {
        rt::time::sleep(wait).await;
    }
    next.call(request).await
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_asks_now_and_then_never_waits() {
        let (rate, begin) = (Rate::default(), Instant::now());
        for second in 0..100 {
            let now = begin + Duration::from_secs(second);
            for _ in 0..AT_ONCE {
                assert_eq!(rate.take(now), Duration::ZERO);
            }
        }
    }

    proptest! {
        #[test]
        fn nobody_waits_for_more_than_can_be_connected_however_many_have_asked_and_gone(
            pauses in prop::collection::vec(0_u64..50, 1..20_000),
        ) {
            let (rate, mut now) = (Rate::default(), Instant::now());
            for pause in pauses {
                now += Duration::from_micros(pause);
                prop_assert!(rate.take(now) <= FURTHEST);
            }
        }

        #[test]
        fn in_no_stretch_of_time_are_there_more_turns_than_are_due(
            pauses in prop::collection::vec(0_u64..3_000, 1..500),
            from in 0_usize..500,
        ) {
            let (rate, mut now) = (Rate::default(), Instant::now());
            let mut turns: Vec<Instant> = Vec::new();
            for pause in pauses {
                now += Duration::from_micros(pause);
                // Who has asked has a connection until it is answered.
                let answered = turns.len().checked_sub(usize::from(MOST_CONNECTIONS)).and_then(|one| turns.get(one));
                now = answered.map_or(now, |answered| now.max(*answered));
                turns.push(now + rate.take(now));
            }
            prop_assert!(turns.is_sorted());
            let stretch = turns.get(from..).unwrap_or_default();
            if let [first, .., last] = stretch {
                let due = (*last - *first).as_millis() + 1 + u128::from(AT_ONCE);
                prop_assert!(stretch.len() as u128 <= due + 1, "{} in {:?}", stretch.len(), *last - *first);
            }
        }
    }
}
