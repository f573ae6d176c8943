//! How long a flow waits: for no other message after a refused one, and not for a reload after its row was mended.
//!
//! Each case lets another flow wait for longer than the case allows, and asserts which of the two is served first.

use test_support::endpoints::{Endpoints, Fault, Meaning, Post, assert_in_order};
use test_support::world::{Backend, SERVERS, World};

/// A flow whose endpoint fails at first and asks for a delay.
const SENTINEL: &str = "sentinel";

fn world_with_sentinel(backend: Backend, endpoints: &mut Endpoints, delay_seconds: u64) -> World {
    let world = World::on(backend);
    let fails_once =
        endpoints.add(move |post| (post.number == 1).then_some(Fault::RetryAfterSeconds(delay_seconds)));
    world.flow(SENTINEL, SENTINEL).posts_to(&fails_once).insert(&world.sql);
    world
}

/// Position of the first post of the message that the endpoint has accepted.
fn accepted_at(posts: &[Post], flow: &str, message_id: i64) -> Option<usize> {
    posts.iter().position(|post| {
        post.meaning == Meaning::Accepted && (post.flow.as_str(), post.message_id) == (flow, message_id)
    })
}

fn has_come(posts: &[Post], flow: &str) -> bool {
    posts.iter().any(|post| post.flow == flow)
}

/// Begins the delay of the sentinel now.
fn begin_delay(world: &World, endpoints: &Endpoints) {
    world.publish(SENTINEL, "{}");
    endpoints.wait_until("the sentinel's first post", |posts| has_come(posts, SENTINEL));
}

#[test]
fn refused_message_delays_the_next_by_less_than_a_second() {
    for backend in SERVERS {
        let mut endpoints = Endpoints::new();
        let world = world_with_sentinel(backend, &mut endpoints, 1);
        let refuses_one = endpoints.add(|post| (post.message_id == 1).then_some(Fault::Status(422)));
        world.flow("strict", "strict").posts_to(&refuses_one).insert(&world.sql);
        let _gateway = world.start_subscribed();
        (1..=2).for_each(|n| world.publish("strict", format!(r#"{{"n": {n}}}"#)));
        endpoints.wait_until("the refused post", |posts| has_come(posts, "strict"));
        begin_delay(&world, &endpoints);
        endpoints.wait_until("the end of the delay", |posts| accepted_at(posts, SENTINEL, 1).is_some());
        let posts = endpoints.posts();
        let next = accepted_at(&posts, "strict", 2);
        assert!(next.is_some_and(|next| Some(next) < accepted_at(&posts, SENTINEL, 1)), "{posts:?}");
        assert_in_order(&posts);
        assert_eq!(posts.iter().filter(|post| post.flow == "strict").count(), 2, "each came once");
        assert_eq!(world.wait_for_dead_letters(1)[0].reason, "endpoint_refused");
    }
}

#[test]
fn mended_url_is_used_without_a_reload() {
    for backend in SERVERS {
        let mut endpoints = Endpoints::new();
        let mut world = world_with_sentinel(backend, &mut endpoints, 10);
        // No reload comes by itself.
        world.set("FLOWS_RELOAD_INTERVAL_SECONDS", "86400");
        let (wrong, right) =
            (endpoints.add(|_| Some(Fault::RetryAfterSeconds(3600))), endpoints.add(|_| None));
        world.flow("mended", "mended").posts_to(&wrong).insert(&world.sql);
        let _gateway = world.start_subscribed();
        (1..=3).for_each(|n| world.publish("mended", format!(r#"{{"n": {n}}}"#)));
        endpoints.wait_until("a post to the wrong URL", |posts| has_come(posts, "mended"));
        world.wait_for_last_msg_id("mended", 3);
        begin_delay(&world, &endpoints);
        let mend = "UPDATE flows SET endpoint_url = ? WHERE code = 'mended'";
        world.sql.execute(mend, [right.into()]);
        endpoints.wait_until("a post to the right URL, or the end of the delay", |posts| {
            accepted_at(posts, "mended", 3).or(accepted_at(posts, SENTINEL, 1)).is_some()
        });
        let posts = endpoints.posts();
        assert!(accepted_at(&posts, "mended", 3).is_some(), "{backend:?}: the delay is over: {posts:?}");
        assert_in_order(&posts);
    }
}
