//! A whole gateway, put together for a runtime: its shards, its backplane, and the handle by which everything else reaches them.
//!
//! A worker is a gateway without shards: it has no clients, publishes and listens.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_channel::oneshot;
use http::{Request, Response};
use roomcast_core::backplane::Backplane;
use roomcast_core::config::{Config, ConfigError, Drain, Limits};
use roomcast_core::dead_letter::{Interrupted, Outcome, Request as LetterRequest};
use roomcast_core::door::{PublishError, Unavailable};
use roomcast_core::health::SourceHealth;
use roomcast_core::http::{self as http_api, Plan, Planned, View, dead_letters, rooms, surveys, users};
use roomcast_core::hub::Hub;
use roomcast_core::id::ShardId;
use roomcast_core::message::{Composer, Outgoing};
use roomcast_core::stats::Stats;
use roomcast_core::store::{Page, Query, StoreError};
use roomcast_core::survey::{Question, Surveyed};
use roomcast_core::time::Time;

use crate::authorizer::Authorizer;
use crate::backplane::{self, BackplaneTask, Post};
use crate::clients::Clients;
use crate::clock::Clock;
use crate::entrance::{Entrance, Guest, TurnedAway};
use crate::keyring::Keyring;
use crate::lanes::Lanes;
use crate::log;
use crate::mailbox::Mailbox;
use crate::processor::Processors;
use crate::shard::{self, Shard};
use crate::snapshot::Snapshots;
use crate::transport::{Timer, Transport};

mod api;
mod clients;
mod events;
mod exchange;
mod listening;
mod policy;
mod stored;

pub(crate) use api::SharedApi;
pub use events::Emitted;
pub(crate) use exchange::HungUp;
pub use stored::Stored;

/// How long each half may take to end in a gateway that was not drained.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// The handle of a gateway: sockets, requests and messages go in here, from any thread.
#[derive(Debug)]
pub struct Gateway<T> {
    shards: Vec<Arc<Mailbox<shard::Input<T>>>>,
    post: Arc<Post>,
    board: Arc<Board>,
    config: Arc<Config>,
    entrance: Arc<Entrance>,
    api: Arc<SharedApi>,
    keyring: Keyring,
    composer: Mutex<Composer>,
    clock: Clock,
    next: AtomicUsize,
    /// How many requests of Engine.IO sessions there have been.
    exchanges: AtomicU64,
    /// Publishes that may wait for the backplane's task at the most.
    most_publishes: usize,
    drain: Drain,
    /// When the drain began, if it has.
    draining_since: OnceLock<Time>,
}

/// A gateway and the tasks that a runtime has to run for it.
#[derive(Debug)]
pub struct Parts<T, M> {
    /// The handle.
    pub gateway: Arc<Gateway<T>>,
    /// One future for each shard.
    pub shards: Vec<Shard<T, M>>,
    /// The backplane's future.
    pub backplane: BackplaneTask<T, M>,
}

/// What a runtime contributes to a gateway.
pub struct Host<M> {
    /// How many shards to make, one for each thread that will serve connections; none in a worker.
    pub shards: u8,
    /// 32 bytes that nobody can guess: message identifiers follow from them.
    pub seed: [u8; 32],
    /// Makes a timer; each task has one.
    pub timer: fn() -> M,
    /// Makes the ways to the store, which answer to the mailbox given.
    pub lanes: Box<dyn FnOnce(Arc<Post>) -> Box<dyn Lanes>>,
    /// What deals with the entries of sources that go to the host.
    pub processors: Processors,
    /// What gives the states of rooms.
    pub snapshots: Snapshots,
    /// What decides where rules leave it to the host.
    pub authorizer: Authorizer,
    /// What hears Socket.IO clients.
    pub clients: Clients,
}

/// The figures of a gateway, posted by its tasks.
#[derive(Debug)]
pub struct Board {
    hubs: Vec<Mutex<Stats>>,
    backplane: Mutex<(Stats, Vec<String>, Arc<[SourceHealth]>)>,
}

impl<T: Transport> Gateway<T> {
    /// Puts a gateway together.
    ///
    /// # Errors
    /// A configuration that cannot work.
    pub fn build<M: Timer>(config: Arc<Config>, host: Host<M>) -> Result<Parts<T, M>, ConfigError> {
        let processors = host.processors.by_source(&config)?;
        let clock = Clock::start();
        let (now, unix) = (clock.now(), clock.unix());
        let count = host.shards.min(ShardId::MOST);
        // A part of its own in the seed, so that identifiers do not repeat those of a hub.
        let mut seed = host.seed;
        seed[30] ^= 0xa5;
        let mut entrance_seed = host.seed;
        entrance_seed[0] ^= 0x5a;
        let gateway = Arc::new(Gateway {
            entrance: Arc::new(Entrance::new(config.clone(), entrance_seed)),
            shards: (0..count).map(|_| Arc::default()).collect(),
            post: Arc::new(Post::new()),
            board: Arc::new(Board::new(usize::from(count))),
            config: config.clone(),
            api: Arc::new(SharedApi::new(config.clone())),
            keyring: Keyring::new(&config.auth)?,
            composer: Mutex::new(Composer::new(seed)),
            clock,
            next: AtomicUsize::new(0),
            exchanges: AtomicU64::new(0),
            most_publishes: config.relay.publishes_in_flight,
            drain: config.drain.clone(),
            draining_since: OnceLock::new(),
        });
        let mut shards = Vec::new();
        for number in (0..count).map(ShardId) {
            let mut hub = Hub::new(config.clone(), number, host.seed)?;
            hub.set_wall_clock(now, unix);
            hub.set_reporting(log::wanted());
            hub.set_hosted(host.clients.are_heard());
            shards.push(Shard::new(
                number,
                hub,
                gateway.clone(),
                (host.clients.clone(), host.authorizer.clone()),
                (host.timer)(),
            ));
        }
        let mut backplane = Backplane::new(config, host.seed, now)?;
        backplane.set_hubs(count);
        backplane.set_wall_clock(now, unix);
        backplane.set_reporting(log::wanted());
        backplane.provide_snapshots(host.snapshots.rooms());
        let lanes = (host.lanes)(gateway.post.clone());
        let backplane = BackplaneTask::new(backplane, &gateway, lanes, (processors, host.snapshots), (host.timer)());
        Ok(Parts { gateway, shards, backplane })
    }

    /// Takes over a socket of which nothing has been read yet, or only `read`. `peer` is the address of its other end, where it has one:
    /// limits for each address, and what is logged, go by it. One that is too many is turned away. A worker closes it.
    ///
    /// Who has many sockets to hand over asks first whether each is let in ([`Gateway::admit`]).
    pub fn accept(&self, mut io: T, read: Vec<u8>, peer: Option<IpAddr>) {
        match self.admit(peer) {
            Ok(guest) => self.serve(io, read, guest),
            Err(turned_away) => turned_away.tell(&mut io),
        }
    }

    /// Whether a socket is let in that was accepted and may cost nothing yet, and counts it if it is.
    ///
    /// # Errors
    /// It is one too many.
    pub fn admit(&self, peer: Option<IpAddr>) -> Result<Guest, TurnedAway> {
        self.entrance.admit(self.clock.now(), peer)
    }

    /// Takes over a socket that was let in, as [`Gateway::accept`] does.
    pub fn serve(&self, io: T, read: Vec<u8>, guest: Guest) {
        if let Some(shard) = self.turn() {
            shard.post(shard::Input::Arrived(io, read, guest));
        }
    }

    /// The shards take turns. A worker has none.
    fn turn(&self) -> Option<&Arc<Mailbox<shard::Input<T>>>> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed).checked_rem(self.shards.len())?;
        self.shards.get(turn)
    }

    /// Answers an HTTP request whose body is whole. That of a session which polls is held until there is something to say: whose
    /// client has gone is to be dropped.
    pub async fn respond(&self, request: Request<Bytes>) -> Response<Bytes> {
        self.respond_on((None, None), Box::new(request), HungUp::default()).await
    }

    /// The same, for a client on one of the shards, whose socket has this other end.
    pub(crate) async fn respond_on(
        &self,
        (at, peer): (Option<ShardId>, Option<IpAddr>),
        request: Box<Request<Bytes>>,
        hung_up: HungUp,
    ) -> Response<Bytes> {
        // A request that polls waits for long: it must not hold the room that any other may need.
        let request = match Box::pin(self.answer(peer, request)).await {
            Ok(response) => return response,
            Err(request) => request,
        };
        match self.exchange((at, peer), request, hung_up) {
            Some(waiting) => waiting.await,
            None => exchange::stopped(),
        }
    }

    /// Answers a request, or gives it back if it is one of an Engine.IO session.
    async fn answer(&self, peer: Option<IpAddr>, request: Box<Request<Bytes>>) -> Result<Response<Bytes>, Box<Request<Bytes>>> {
        let api = self.api.get();
        let Planned { plan, access } = api.plan(&request, self.clock.unix(), &self.view());
        let room = if let Plan::Publish { room, .. } = &plan { Some(&**room) } else { None };
        let address = || self.entrance.address_of(peer, &request);
        let action = access.map(|access| log::Action::new(access, address(), &request, room));
        let response = match plan {
            Plan::Respond(response) => response,
            Plan::Publish { room, message } => {
                let (message_id, stored) = self.publish(&room, &message.outgoing());
                http_api::published(&message_id, stored.await)
            }
            Plan::Operate { source, request } => dead_letters::answer(self.operate(source, request).await),
            Plan::Disconnect { user } => users::answer(&user, self.disconnect(&user).await),
            Plan::Revoke(subject) => users::revoked(&self.revoke(subject).await),
            Plan::Survey(question) => surveys::answer(&question, &self.survey(question.clone()).await),
            Plan::Room(room) => {
                let surveyed = self.survey(surveys::room(&room)).await;
                let page = self.read(&room, Query::Newest, 1).await;
                let position = page.ok().map(|page| page.head).filter(|head| head.epoch != 0);
                surveys::room_answer(&room, &surveyed, position)
            }
            Plan::Read(reading) => rooms::answer(&reading, self.read(&reading.room, reading.query, reading.count).await),
            Plan::Exchange => return Err(request),
        };
        if let Some(mut action) = action {
            action.status = Some(response.status());
        }
        Ok(response)
    }

    /// Asks all nodes what they have.
    pub async fn survey(&self, question: Question) -> Surveyed {
        let (done, surveyed) = oneshot::channel();
        let nothing = Surveyed { survey: question.nothing(), answered: 0, asked: None };
        self.post.post(backplane::Input::Survey { question, done });
        // A gateway that has stopped says nothing any more.
        surveyed.await.unwrap_or(nothing)
    }

    /// Publishes a message to a room, on all nodes: its identifier, and a future that says whether the store has it.
    ///
    /// A message that is given an identifier, and any message of a worker, waits up to `relay.patience` for a store that is away.
    /// Where more wait than `relay.publishes_in_flight` and `relay.publish_bytes` allow, it is not taken: [`PublishError::Full`].
    pub fn publish(&self, room: &str, message: &Outgoing<'_>) -> (Box<str>, Stored) {
        self.publish_to(&[room], message, &[])
    }

    /// Publishes a message to each of these rooms, with further top-level fields.
    fn publish_to(&self, rooms: &[impl AsRef<str>], message: &Outgoing<'_>, fields: &[(&str, &str)]) -> (Box<str>, Stored) {
        let (now, once) = (self.clock.unix(), message.message_id);
        let mut message_id: Option<Box<str>> = once.map(Box::from);
        let mut waiting = Vec::with_capacity(rooms.len());
        for room in rooms.iter().map(AsRef::as_ref) {
            let message = Outgoing { message_id: message_id.as_deref(), ..*message };
            let envelope = lock(&self.composer).envelope_with(room, &message, fields, now);
            let (done, stored) = oneshot::channel();
            // Nobody but the worker would repeat its messages.
            let once = once.or_else(|| self.is_worker().then_some(&*envelope.message_id)).map(Box::from);
            if self.post.len() < self.most_publishes {
                self.post.post(backplane::Input::Publish { room: room.into(), payload: envelope.payload, once, done });
            } else {
                let _ = done.send(Err(PublishError::Full));
            }
            message_id = Some(envelope.message_id);
            waiting.push(stored);
        }
        (message_id.unwrap_or_default(), Stored::new(waiting))
    }

    /// Closes every connection of a user, on all nodes: a future that says whether the store has it. A node that cannot be reached
    /// closes them when it can.
    pub fn disconnect(&self, user: &str) -> Stored {
        let (done, stored) = oneshot::channel();
        self.post.post(backplane::Input::Disconnect { user: user.into(), done });
        Stored::new(vec![stored])
    }

    /// Has something done with the dead letters of a source, which is named by its index in the configuration.
    ///
    /// # Errors
    /// What the store said, and how far the operation had come.
    pub async fn operate(&self, source: usize, request: LetterRequest) -> Result<Outcome, Interrupted> {
        let (done, outcome) = oneshot::channel();
        self.post.post(backplane::Input::Operate { source, request, done });
        let stopped = || Interrupted { replayed: 0, error: StoreError::Disconnected("the gateway has stopped".into()) };
        outcome.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Reads at most `count` messages of what a room remembers.
    ///
    /// # Errors
    /// The store did not answer, or the room remembers nothing.
    pub async fn read(&self, room: &str, query: Query, count: usize) -> Result<Page, Unavailable> {
        let (done, page) = oneshot::channel();
        self.post.post(backplane::Input::Read { room: room.into(), query, count, done });
        page.await.unwrap_or(Err(Unavailable))
    }

    /// The figures and the readiness at the moment.
    pub fn view(&self) -> View {
        let mut view = self.board.view();
        view.unready.extend(self.keyring.unready());
        view.stats.add(&self.entrance.stats());
        if self.is_draining() {
            view.unready.insert(0, "draining".to_owned());
        }
        view
    }

    pub(crate) fn mailbox(&self, shard: ShardId) -> Arc<Mailbox<shard::Input<T>>> {
        self.shards[usize::from(shard.0)].clone()
    }

    pub(crate) fn mailboxes(&self) -> Vec<Arc<Mailbox<shard::Input<T>>>> {
        self.shards.clone()
    }

    pub(crate) fn post(&self) -> &Arc<Post> {
        &self.post
    }

    pub(crate) fn limits(&self) -> &Limits {
        self.entrance.limits()
    }

    pub(crate) fn entrance(&self) -> &Arc<Entrance> {
        &self.entrance
    }

    pub(crate) fn board(&self) -> &Arc<Board> {
        &self.board
    }

    pub(crate) fn api(&self) -> &Arc<SharedApi> {
        &self.api
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    pub(crate) fn shard_count(&self) -> u8 {
        // There are never more than `ShardId::MOST`.
        self.shards.len() as u8
    }

    fn is_worker(&self) -> bool {
        self.shards.is_empty()
    }

    /// Whether the gateway is about to end.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining_since.get().is_some()
    }

    /// Lets everybody go: is not ready any more, opens no connection, reads nothing more from sources, and closes every
    /// connection as [`Drain`] says. Returns when no connection is left, which is at [`Drain::dropping`] in any case; until then
    /// HTTP is to be served.
    pub async fn drain(&self) {
        self.draining_since.get_or_init(|| self.clock.now());
        self.post.post(backplane::Input::Drain);
        let wait = |shard: &Arc<Mailbox<shard::Input<T>>>| {
            let (done, drained) = oneshot::channel();
            shard.post(shard::Input::Drain(done));
            drained
        };
        let waiting: Vec<oneshot::Receiver<()>> = self.shards.iter().map(wait).collect();
        for drained in waiting {
            // A shard that has ended has no connections either.
            let _ = drained.await;
        }
    }

    /// Closes what is left, and ends the shards' tasks once that is done, or the time for it is up.
    pub fn stop_shards(&self) {
        let within = self.left_until(self.drain.serving()).min(STOP_TIMEOUT);
        self.shards.iter().for_each(|shard| shard.post(shard::Input::Stop(within)));
    }

    /// Ends the backplane's task once everything is stored that has been asked for, or the time for it is up: after the shards',
    /// so that nothing is asked in vain.
    pub fn stop_backplane(&self) {
        self.post.post(backplane::Input::Stop(self.left_until(self.drain.storing())));
    }

    /// What is left of a time that began with the drain.
    fn left_until(&self, end: Duration) -> Duration {
        let Some(since) = self.draining_since.get() else { return STOP_TIMEOUT };
        end.saturating_sub(self.clock.now() - *since)
    }
}

impl Board {
    fn new(hubs: usize) -> Board {
        let starting = vec!["starting".to_owned()];
        Board {
            hubs: (0..hubs).map(|_| Mutex::default()).collect(),
            backplane: Mutex::new((Stats::default(), starting, Arc::default())),
        }
    }

    pub(crate) fn set_hub(&self, shard: ShardId, stats: Stats) {
        if let Some(slot) = self.hubs.get(usize::from(shard.0)) {
            *lock(slot) = stats;
        }
    }

    pub(crate) fn set_backplane(&self, stats: &Stats, unready: Vec<String>, sources: Arc<[SourceHealth]>) {
        *lock(&self.backplane) = (*stats, unready, sources);
    }

    fn view(&self) -> View {
        let (mut stats, unready, sources) = lock(&self.backplane).clone();
        self.hubs.iter().for_each(|hub| stats.add(&lock(hub)));
        View { stats, unready, sources }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Figures and dice are whole whatever happened to another thread.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
