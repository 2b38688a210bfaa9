//! The swarm: a seed decides what happens, how often, and what breaks. First things break, then everything is healed and must
//! come true.

use std::collections::BTreeSet;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use roomcast_core::config::{self, AccessRule, Config, History, Inbox, Keep, RoomRule, Secret, Who};
use roomcast_core::id::StreamId;
use roomcast_core::processor::Verdict;
use roomcast_core::token::Subject;

use super::batches::Form;
use super::policy::Asked;
use super::processing::Handed;
use super::{ClientNumber, Transport, World, commands, processing};

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// See [`World::digest`].
    pub digest: u64,
    /// Entries that were added to the sources.
    pub entries: usize,
    /// Messages that clients saw.
    pub seen: usize,
    /// Tokens that ended or were revoked while their clients were connected.
    pub ended: usize,
    /// Rooms that clients were told they may not be in.
    pub forbidden: usize,
}

/// Runs one seed for so many steps, then heals and demands convergence. Panics when an oracle is violated.
pub fn run(seed: u64, steps: usize) -> Outcome {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x5eed);
    let nodes = 1 + rng.next_u32() as usize % 3;
    let mut world = World::with(seed, nodes, config(seed));
    // Swarm testing: each seed leaves some kinds of things out altogether, so that the others meet more often.
    let weights: Vec<u32> =
        KINDS.iter().map(|kind| if rng.next_u32() % 3 == 0 { kind.least() } else { 1 + rng.next_u32() % kind.most() }).collect();
    let total: u32 = weights.iter().sum();
    let mut swarm = Swarm {
        world: &mut world,
        rng,
        nodes,
        clients: Vec::new(),
        invoices: BTreeSet::new(),
        handed: Vec::new(),
        done: BTreeSet::new(),
        asked: Vec::new(),
    };
    // Somebody is always there to be promised something.
    for _ in 0..nodes * 2 {
        swarm.perform(Kind::Connect);
        swarm.perform(Kind::Subscribe);
    }
    for _ in 0..steps {
        let mut pick = if total == 0 { 0 } else { swarm.rng.next_u32() % total };
        let kind = weights.iter().position(|weight| {
            let hit = pick < *weight;
            pick = pick.saturating_sub(*weight);
            hit
        });
        swarm.perform(KINDS[kind.unwrap_or(0)]);
    }
    swarm.process_all();
    let invoices = swarm.invoices.len();
    world.converge();
    let seen = world.clients.iter().flat_map(|client| client.rooms()).map(|(_, room)| room.seen.len()).sum();
    let (stats, forbidden) = (world.stats(), world.clients.iter().map(|client| client.forbidden()).sum());
    let ended = (stats.expired + stats.revoked) as usize;
    Outcome { digest: world.digest(), entries: world.added.len() + world.commands.len() + invoices, seen, ended, forbidden }
}

/// The usual sources, and one for code that may take long: the swarm decides late, or never.
fn config(seed: u64) -> Config {
    let mut config = World::usual();
    // In every third world the stream of file events stands in another Redis than the relay logs.
    config.sources[0].redis = seed.is_multiple_of(3).then(|| Secret::new("redis://elsewhere"));
    // In every fifth, all that entries become stands elsewhere, as in a cluster.
    config.sources.iter_mut().for_each(|source| source.cluster = seed % 5 == 1);
    // Runs are long, and there is nothing to be learnt from more proofs.
    config.relay.probe = Duration::from_secs(10);
    // Sessions whose clients are gone without a word do not last long.
    (config.socketio.ping_interval, config.socketio.ping_timeout) = (Duration::from_secs(10), Duration::from_secs(20));
    let host = config::Host { at_once: 4, ..config::Host::new("p") };
    let keep = Keep::History(History { size: 30, ttl: Duration::from_secs(60), newest: (seed % 4) as u32 });
    let remembers = if seed.is_multiple_of(2) { "*:*" } else { "project:*" };
    config.rooms = vec![
        RoomRule::keep("user:*", Keep::Inbox(Inbox::default())),
        RoomRule { presence: true, ..RoomRule::keep("project:*", keep.clone()) },
        RoomRule::keep(remembers, keep),
    ];
    config.sources.extend(processing::config(host).sources.pop());
    config
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Pass,
    Connect,
    Subscribe,
    Unsubscribe,
    Bounce,
    Batch,
    Command,
    Invoice,
    Decide,
    Publish,
    Nonsense,
    Cut,
    Return,
    Reading,
    LosePoll,
    Upgrade,
    Crash,
    Restart,
    CutStore,
    HealStore,
    LoseAnswers,
    ForgetRoom,
    TrimRoom,
    Fill,
    Drain,
    Trim,
    DestroyGroup,
    Renew,
    Revoke,
    Rule,
    Allow,
    LongPause,
}

impl Kind {
    /// What is never left out altogether: a run in which nothing is said shows nothing.
    fn least(self) -> u32 {
        u32::from(matches!(self, Kind::Pass | Kind::Connect | Kind::Subscribe | Kind::Batch | Kind::Publish))
    }

    /// What shuts many out at once is rare, or hardly anybody is left to whom something is said.
    fn most(self) -> u32 {
        if matches!(self, Kind::Revoke | Kind::Rule) { 3 } else { 20 }
    }
}

const KINDS: [Kind; 32] = [
    Kind::Pass,
    Kind::Connect,
    Kind::Subscribe,
    Kind::Unsubscribe,
    Kind::Bounce,
    Kind::Batch,
    Kind::Command,
    Kind::Invoice,
    Kind::Decide,
    Kind::Publish,
    Kind::Nonsense,
    Kind::Cut,
    Kind::Return,
    Kind::Reading,
    Kind::LosePoll,
    Kind::Upgrade,
    Kind::Crash,
    Kind::Restart,
    Kind::CutStore,
    Kind::HealStore,
    Kind::LoseAnswers,
    Kind::ForgetRoom,
    Kind::TrimRoom,
    Kind::Fill,
    Kind::Drain,
    Kind::Trim,
    Kind::DestroyGroup,
    Kind::Renew,
    Kind::Revoke,
    Kind::Rule,
    Kind::Allow,
    Kind::LongPause,
];

const WORKSPACES: [&str; 3] = ["a", "b", "c"];

struct Swarm<'w> {
    world: &'w mut World,
    rng: ChaCha8Rng,
    nodes: usize,
    clients: Vec<ClientNumber>,
    /// Entries for the host's code, those that it has and those that it said were done.
    invoices: BTreeSet<StreamId>,
    handed: Vec<Handed>,
    done: BTreeSet<StreamId>,
    /// What nodes have asked the host.
    asked: Vec<Asked>,
}

impl Swarm<'_> {
    fn perform(&mut self, kind: Kind) {
        match kind {
            Kind::Pass => {
                let micros = self.below(20_000);
                self.world.run(Duration::from_micros(micros as u64));
            }
            Kind::LongPause => {
                let seconds = self.below(40);
                self.world.run(Duration::from_secs(seconds as u64));
            }
            Kind::Connect => {
                let (node, user) = (self.below(self.nodes), format!("user-{}", self.below(4)));
                let token = self.token(&user);
                match self.below(9) {
                    0 => self.clients.push(self.world.connect_unknown(node)),
                    kind @ 1..4 => {
                        let transport = [Transport::WebSocket, Transport::Polling, Transport::Upgrading][kind - 1];
                        let namespaces = &["/ws", "/"][..1 + self.below(2)];
                        self.clients.extend(self.world.connect_namespaces_with(node, &user, transport, namespaces, &token));
                    }
                    _ => self.clients.push(self.world.connect_with(node, &user, token)),
                }
            }
            Kind::Subscribe => {
                let room = self.room();
                self.with_client(|world, client| world.subscribe(client, &room));
            }
            Kind::Unsubscribe => {
                let room = self.room();
                self.with_client(|world, client| world.unsubscribe(client, &room));
            }
            Kind::Bounce => {
                // Out and in again, while messages are on their way.
                let room = self.room();
                self.perform(Kind::Batch);
                self.with_client(|world, client| {
                    world.unsubscribe(client, &room);
                    world.subscribe(client, &room);
                });
                self.perform(Kind::Batch);
            }
            Kind::Batch => {
                let events = 1 + self.below(4);
                let workspaces: Vec<&str> = (0..events).map(|_| WORKSPACES[self.below(3)]).collect();
                let form = Form::MIX[self.below(Form::MIX.len())];
                self.world.add_batch(&workspaces, form);
            }
            Kind::Command => {
                let service = commands::SERVICES[self.below(commands::SERVICES.len())];
                let form = commands::Form::MIX[self.below(commands::Form::MIX.len())];
                self.world.add_command(service, form);
            }
            Kind::Invoice => {
                let entry = self.world.invoice("x");
                self.invoices.insert(entry);
            }
            Kind::Decide => {
                self.handed.extend(self.world.handed());
                if !self.handed.is_empty() {
                    let at = self.below(self.handed.len());
                    let handed = self.handed.swap_remove(at);
                    let verdict = match self.below(4) {
                        0 => Verdict::Retry("later".into()),
                        1 => Verdict::Reject("never".into()),
                        _ => Verdict::Done,
                    };
                    self.decide(&handed, verdict);
                }
            }
            Kind::Publish => {
                let (node, room) = (self.below(self.nodes), self.room());
                if self.rng.next_u32().is_multiple_of(2) {
                    self.world.publish(node, &room);
                } else {
                    self.world.publish_once(node, &room);
                }
            }
            Kind::Nonsense => {
                let text = ["", "[", "{\"type\":\"dance\"}", "{\"type\":\"auth\",\"data\":{\"token\":\"x\"}}"][self.below(4)];
                self.with_client(|world, client| world.send(client, text));
            }
            Kind::Cut => self.with_client(World::cut),
            Kind::Return => {
                let node = self.below(self.nodes);
                if let Some(client) = self.client() {
                    // Some try their luck with a token that is good no longer.
                    if !self.world.is_good(client) && self.below(4) > 0 {
                        let token = self.token_for(client);
                        token.into_iter().for_each(|token| self.world.give_token(client, token));
                    }
                    self.world.come_back(client, node);
                }
            }
            Kind::ForgetRoom => {
                // What is taken out of an inbox is lost, and nobody promises anything.
                let room = format!("workspace:{}", WORKSPACES[self.below(3)]);
                self.world.forget_room(&room);
            }
            Kind::TrimRoom => {
                let (room, keep) = ("project:1", self.below(10));
                self.world.trim_room(room, keep);
            }
            Kind::Reading => {
                let reads = self.below(2) == 0;
                self.with_client(|world, client| world.set_reading(client, reads));
            }
            Kind::LosePoll => self.with_client(World::lose_answer),
            Kind::Upgrade => self.with_client(World::upgrade),
            Kind::Crash => {
                let node = self.below(self.nodes);
                self.world.crash(node);
            }
            Kind::Restart => {
                let node = self.below(self.nodes);
                self.world.restart(node);
            }
            Kind::CutStore => {
                let node = self.below(self.nodes);
                self.world.cut_store(node);
            }
            Kind::HealStore => {
                let node = self.below(self.nodes);
                self.world.heal_store(node);
            }
            Kind::LoseAnswers => {
                let node = self.below(self.nodes);
                self.world.lose_answers(node);
            }
            Kind::Fill => self.world.set_full(true),
            Kind::Drain => self.world.set_full(false),
            Kind::Trim => {
                let keep = self.below(20);
                self.world.trim(keep);
            }
            // What was acknowledged beyond a pending invoice comes again: its code is told to expect that, rooms are not.
            Kind::DestroyGroup => self.world.destroy_group_of_invoices(),
            Kind::Renew => {
                if let Some(client) = self.client().filter(|client| self.world.is_connected(*client))
                    && let Some(token) = self.token_for(client)
                {
                    self.world.renew_with(client, &token);
                    self.world.give_token(client, token);
                }
            }
            Kind::Revoke => {
                let (node, user) = (self.below(self.nodes), format!("user-{}", self.below(4)));
                let token = self.client().and_then(|client| self.world.token_name(client));
                let subject = match token.filter(|_| self.rng.next_u32().is_multiple_of(2)) {
                    Some(token) => Subject::Token(token),
                    None => Subject::User(user.into()),
                };
                if self.world.is_running(node) {
                    self.world.revoke(node, subject);
                }
            }
            Kind::Rule => {
                let node = self.below(self.nodes);
                let room = ["workspace:*", "workspace:a", "project:1", "task:7"][self.below(4)];
                let who = [Who::Nobody, Who::Authenticated, Who::Role("member".into()), Who::Host][self.below(4)].clone();
                let mut rules = World::usual().access;
                rules.insert(0, AccessRule::new(room, who, Who::Admin));
                self.world.set_access(node, &rules);
            }
            Kind::Allow => {
                self.asked.extend(self.world.petitions());
                if !self.asked.is_empty() {
                    let at = self.below(self.asked.len());
                    let asked = self.asked.swap_remove(at);
                    let allowed = self.below(3) > 0;
                    self.world.decide_on(&asked, allowed);
                }
            }
        }
    }

    /// A token of a user, for a while or for longer than a run lasts.
    fn token(&mut self, user: &str) -> String {
        let seconds = if self.below(4) == 0 { self.below(60) as u64 } else { 1_000_000 };
        let roles = &["member"][..self.below(2)];
        self.world.issue(user, seconds, roles)
    }

    fn token_for(&mut self, client: ClientNumber) -> Option<String> {
        let user = self.world.user_of(client)?.to_owned();
        Some(self.token(&user))
    }

    fn decide(&mut self, handed: &Handed, verdict: Verdict) {
        if verdict == Verdict::Done {
            self.done.insert(handed.delivery.entry);
        }
        self.world.decide(handed, verdict);
    }

    /// Heals everything and is quick from now on: each invoice must come to its end.
    fn process_all(&mut self) {
        self.world.set_full(false);
        for node in 0..self.nodes {
            self.world.heal_store(node);
            self.world.restart(node);
        }
        for _ in 0..10_000 {
            self.world.run(Duration::from_secs(1));
            for handed in self.world.handed() {
                self.decide(&handed, Verdict::Done);
            }
            if self.world.invoices_left().0 == 0 && self.invoices.iter().all(|entry| self.has_ended(*entry)) {
                return;
            }
        }
        let left: Vec<_> = self.invoices.iter().filter(|entry| !self.has_ended(**entry)).collect();
        panic!("C3: invoices without an end: {left:?}");
    }

    fn has_ended(&self, entry: StreamId) -> bool {
        self.done.contains(&entry) || self.world.dead_invoices().contains(&entry)
    }

    fn with_client(&mut self, act: impl FnOnce(&mut World, ClientNumber)) {
        if let Some(client) = self.client() {
            act(self.world, client);
        }
    }

    fn client(&mut self) -> Option<ClientNumber> {
        let number = self.below(self.clients.len().max(1));
        self.clients.get(number).copied()
    }

    fn room(&mut self) -> String {
        match self.below(8) {
            0 => "task:7".to_owned(),
            1 => "user:user-1".to_owned(),
            2 => "project:1".to_owned(),
            _ => format!("workspace:{}", WORKSPACES[self.below(3)]),
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.rng.next_u32() as usize % bound
    }
}
