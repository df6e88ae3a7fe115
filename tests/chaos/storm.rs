//! Carries a schedule out.

use std::time::{Duration, Instant};

use crate::chaos::record::{Happened, What, now_ms};
use crate::chaos::schedule::{self, Blow, Strike};
use crate::chaos::world::World;
use crate::wait::lasting;

/// How often the world is looked after between strikes.
const LOOK: Duration = Duration::from_millis(200);
/// The longest that a strike on NATS waits for the cluster to be whole.
const WHOLE_MAX: Duration = Duration::from_secs(20);

/// Strikes as the schedule says and returns when everything is up again. A strike on NATS waits for the cluster to be
/// in step, so that never more than a minority is away; all that follows is then as much later.
pub async fn storm(world: &mut World, strikes: &[Strike]) -> Vec<Happened> {
    let mut clock = Clock { start: Instant::now(), late: Duration::ZERO };
    let mut happened: Vec<Happened> = Vec::new();
    // What is away, and when it comes back.
    let mut away: Vec<(u64, usize, Strike)> = Vec::new();
    for strike in strikes {
        clock.until(strike.at_ms, world, &mut away, &mut happened).await;
        if strike.target.is_nats() {
            clock.whole(world, &mut away, &mut happened).await;
        }
        let at = clock.now_ms() as f64 / 1_000.0;
        println!("{at:8.3} s  {:<14} {}", strike.target.to_string(), strike.blow);
        match strike.blow {
            Blow::Kill { .. } => world.kill(strike.target),
            Blow::Pause { .. } => world.pause(strike.target),
        }
        let what = What::Struck(strike.target, strike.blow);
        happened.push(Happened { start_ms: now_ms(), end_ms: u64::MAX, what });
        away.push((clock.now_ms() + strike.blow.lasts_ms(), happened.len() - 1, *strike));
    }
    clock.until(schedule::end_ms(strikes), world, &mut away, &mut happened).await;
    while !away.is_empty() {
        clock.until(clock.now_ms() + 100, world, &mut away, &mut happened).await;
    }
    happened
}

struct Clock {
    start: Instant,
    /// How far the schedule is behind.
    late: Duration,
}

type Away = Vec<(u64, usize, Strike)>;

impl Clock {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).expect("milliseconds fit")
    }

    /// Lets time pass, and brings back what is due.
    async fn until(&mut self, at_ms: u64, world: &mut World, away: &mut Away, happened: &mut [Happened]) {
        let target_ms = at_ms + u64::try_from(self.late.as_millis()).expect("milliseconds fit");
        loop {
            let now_ms = self.now_ms();
            bring_back(now_ms, world, away, happened);
            world.look_after();
            if now_ms >= target_ms {
                return;
            }
            let next_ms = away.iter().map(|(due_ms, ..)| *due_ms).min().unwrap_or(u64::MAX).min(target_ms);
            lasting(Duration::from_millis(next_ms.saturating_sub(now_ms).max(1)).min(LOOK)).await;
        }
    }

    async fn whole(&mut self, world: &mut World, away: &mut Away, happened: &mut [Happened]) {
        let asked = Instant::now();
        while !world.nats_is_whole().await {
            if asked.elapsed() > WHOLE_MAX {
                println!("          nats is not in step after {WHOLE_MAX:?}; struck all the same");
                break;
            }
            let now_ms = self.now_ms();
            bring_back(now_ms, world, away, happened);
            world.look_after();
            lasting(LOOK).await;
        }
        self.late += asked.elapsed();
    }
}

fn bring_back(now: u64, world: &mut World, away: &mut Away, happened: &mut [Happened]) {
    away.retain(|(due_ms, index, Strike { target, blow, .. })| {
        if *due_ms > now {
            return true;
        }
        match blow {
            Blow::Kill { .. } => world.start_again(*target),
            Blow::Pause { .. } => world.resume(*target),
        }
        happened[*index].end_ms = now_ms();
        false
    });
}
