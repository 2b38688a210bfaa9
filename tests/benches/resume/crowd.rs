//! Members of one room who lose their connections, each in its time, and come back.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use roomcast_tests::real::PATIENCE;

use crate::latency::Latencies;
use crate::member::Member;
use crate::publisher::Progress;
use crate::socket::Event;
use crate::swarm::Swarm;
use crate::text::{Text, understand};

/// After this time a client tries again that could not connect.
const RETRY: Duration = Duration::from_millis(100);

/// What the clients do.
pub(crate) struct Habits {
    /// Where they connect, each time to any of these.
    pub(crate) nodes: Vec<SocketAddr>,
    /// How long a connection lasts until its client cuts it, in seconds.
    pub(crate) cut_after: Option<Range<f64>>,
    /// How long a client is away, in seconds, unless it is told.
    pub(crate) away: Range<f64>,
}

/// The clients.
pub(crate) struct Crowd<'a> {
    swarm: Swarm,
    members: Vec<Member>,
    /// When a client is to come back that has been told.
    told: BTreeMap<usize, Duration>,
    habits: Habits,
    published: &'a Progress,
    random: ChaCha8Rng,
    agenda: BinaryHeap<Reverse<(Instant, usize, Step)>>,
    /// What has happened so far.
    pub(crate) tally: Tally,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Cut,
    Return,
}

/// What has happened to a crowd.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Connections that clients have cut.
    pub(crate) cuts: usize,
    /// Connections that ended otherwise, or were never made, by what was seen of that.
    pub(crate) lost: BTreeMap<String, usize>,
    /// When connections ended that clients have not cut.
    pub(crate) ends: Vec<Instant>,
    /// Clients that were told when to come back.
    pub(crate) told: usize,
    /// When clients tried to come back.
    pub(crate) attempts: Vec<Instant>,
    /// When connections were made, after those of the start.
    pub(crate) connects: Vec<Instant>,
    /// Answers to clients that came back, by what they say of what was missed.
    pub(crate) recovered: usize,
    /// See [`Tally::recovered`].
    pub(crate) refused: usize,
    /// From the question to the last missed message, of those who had missed any.
    pub(crate) replays: Latencies,
    /// How many they had missed.
    pub(crate) missed: usize,
    /// When a client was last back in its room.
    pub(crate) last_return: Option<Instant>,
}

/// What all clients have seen.
pub(crate) struct Outcome {
    /// Messages that they should have seen.
    pub(crate) expected: usize,
    /// Messages of these that they have seen.
    pub(crate) delivered: usize,
    /// Messages seen again.
    pub(crate) duplicates: usize,
    /// Messages seen after later ones.
    pub(crate) disordered: usize,
}

impl<'a> Crowd<'a> {
    /// So many clients, who all are in the room before anything is published.
    pub(crate) fn gather(clients: usize, habits: Habits, published: &'a Progress) -> Self {
        let mut swarm = Swarm::new(0, clients);
        let nodes = &habits.nodes;
        swarm.connect_all(|index| nodes[index % nodes.len()]);
        let members = (0..clients).map(|_| Member::default()).collect();
        let random = ChaCha8Rng::seed_from_u64(5);
        let (told, agenda) = (BTreeMap::new(), BinaryHeap::new());
        let mut crowd = Self { swarm, members, told, habits, published, random, agenda, tally: Tally::default() };
        for (index, member) in crowd.members.iter_mut().enumerate() {
            crowd.swarm.send(index, &member.ask(Instant::now(), 0));
        }
        assert!(crowd.run(PATIENCE, Self::is_back), "not all clients are let in");
        crowd.tally = Tally::default();
        crowd
    }

    /// From now on, connections are cut, if that is their habit.
    pub(crate) fn begin_to_cut(&mut self) {
        for index in 0..self.members.len() {
            self.plan_cut(index);
        }
    }

    /// From now on, connections are cut no more, and those who are away come back in their time.
    pub(crate) fn end_cutting(&mut self) {
        self.habits.cut_after = None;
        self.agenda.retain(|Reverse((_, _, step))| *step == Step::Return);
    }

    /// From now on, whoever comes back goes there.
    pub(crate) fn move_to(&mut self, node: SocketAddr) {
        self.habits.nodes = vec![node];
    }

    /// Goes on until something is the case, no longer than that. Whether it is the case.
    pub(crate) fn run(&mut self, within: Duration, is_over: impl Fn(&Self) -> bool) -> bool {
        // Looking at all clients takes its time.
        const LOOK: Duration = Duration::from_millis(20);
        let deadline = Instant::now() + within;
        let mut look = Instant::now();
        loop {
            let now = Instant::now();
            if now >= look {
                if is_over(self) {
                    return true;
                }
                if now >= deadline {
                    return false;
                }
                look = Instant::now() + LOOK;
            }
            self.keep_agenda(now);
            let due = self.agenda.peek().map_or(look, |Reverse((due, ..))| look.min(*due));
            self.hear(due);
        }
    }

    /// Whether all clients are in the room, and have what they had missed.
    pub(crate) fn is_back(&self) -> bool {
        self.members.iter().all(Member::is_back)
    }

    /// Whether all clients are in the room, and have come to the last message.
    pub(crate) fn is_up_to_date(&self) -> bool {
        let published = self.published.accepted();
        self.members.iter().all(|member| member.is_back() && member.has_come_to(published))
    }

    /// What all clients have seen of what was published.
    pub(crate) fn outcome(&self) -> Outcome {
        let published = self.published.accepted();
        let sum = |value: &dyn Fn(&Member) -> usize| self.members.iter().map(value).sum();
        Outcome {
            expected: published * self.members.len(),
            delivered: sum(&|member| member.delivered(published)),
            duplicates: sum(&Member::duplicates),
            disordered: sum(&|member| member.disordered),
        }
    }

    fn keep_agenda(&mut self, now: Instant) {
        while self.agenda.peek().is_some_and(|Reverse((due, ..))| *due <= now)
            && let Some(Reverse((_, index, step))) = self.agenda.pop()
        {
            match step {
                Step::Cut => {
                    self.swarm.cut(index);
                    self.members[index].leave();
                    self.tally.cuts += 1;
                    self.plan_return(index);
                }
                Step::Return => {
                    self.tally.attempts.push(now);
                    let node = self.random.next_u64() as usize % self.habits.nodes.len();
                    if let Err(error) = self.swarm.connect(index, self.habits.nodes[node]) {
                        *self.tally.lost.entry(error.to_string()).or_default() += 1;
                        self.agenda.push(Reverse((now + RETRY, index, Step::Return)));
                    }
                }
            }
        }
    }

    /// Waits until something has come, no longer than until then.
    fn hear(&mut self, until: Instant) {
        let Self { swarm, members, told, published, tally, .. } = self;
        let (mut lost, mut opened) = (Vec::new(), Vec::new());
        swarm.poll(until, |socket, index, now, event| {
            let member = &mut members[index];
            let returned = match event {
                Event::Open => {
                    tally.connects.push(now);
                    opened.push(index);
                    socket.send(&member.ask(now, published.accepted()));
                    None
                }
                Event::Lost(reason) => {
                    *tally.lost.entry(reason.to_owned()).or_default() += 1;
                    tally.ends.push(now);
                    lost.push((index, socket.is_connecting()));
                    member.leave();
                    None
                }
                Event::Text(payload) => match understand(payload) {
                    Text::Message(number, position) => member.receive(now, number, position),
                    Text::Subscribed { position, recovered } => {
                        tally.recovered += usize::from(recovered == Some(true));
                        tally.refused += usize::from(recovered == Some(false));
                        member.subscribed(now, position)
                    }
                    Text::Reconnect(after) => {
                        tally.told += 1;
                        told.insert(index, after);
                        None
                    }
                    Text::Other => None,
                },
            };
            if let Some(returned) = returned {
                tally.last_return = Some(now);
                if returned.missed > 0 {
                    tally.missed += returned.missed;
                    tally.replays.record(returned.after);
                }
            }
        });
        opened.into_iter().for_each(|index| self.plan_cut(index));
        for (index, was_refused) in lost {
            self.agenda.retain(|Reverse((_, other, _))| *other != index);
            match was_refused {
                true => self.agenda.push(Reverse((Instant::now() + RETRY, index, Step::Return))),
                false => self.plan_return(index),
            }
        }
    }

    fn plan_cut(&mut self, index: usize) {
        if let Some(after) = self.habits.cut_after.clone() {
            self.plan(index, after, Step::Cut);
        }
    }

    fn plan_return(&mut self, index: usize) {
        if let Some(after) = self.told.remove(&index) {
            return self.agenda.push(Reverse((Instant::now() + after, index, Step::Return)));
        }
        self.plan(index, self.habits.away.clone(), Step::Return);
    }

    fn plan(&mut self, index: usize, after: Range<f64>, step: Step) {
        let share = self.random.next_u64() as f64 / u64::MAX as f64;
        let after = Duration::from_secs_f64(after.start + share * (after.end - after.start));
        self.agenda.push(Reverse((Instant::now() + after, index, step)));
    }
}
