//! The beginning of a session: from an accepted connection to the client's first ReadyForQuery (protocol 2, 6-8).

use super::authenticate::{self, Admitted, Applicant, Channel};
use super::caching::Caching;
use super::changes::Changes;
use super::client::Client;
use super::end::End;
use super::farewell::too_many;
use super::journal::Journal;
use super::limits::Turn;
use super::local::Objects;
use super::message_log::MessageLog;
use super::portals::Portals;
use super::requests::{Direct, RequestState};
use super::retry::Kept;
use super::startup::{self, Opening};
use super::statements::Statements;
use super::writer::Refusal;
use super::{Context, Session, finish, message_log, refusal, trace};
use crate::auth::Credential;
use crate::backend::{Demand, Group, Key, Login, ServerConnection};
use crate::config::BackendClusteringMode;
use crate::net::{Deadline, Stream, tls};
use crate::report::{self, Report, SqlState};
use crate::route::{self, Candidate};
use crate::sql::Lexing;
use crate::state::{self, ClientInfo, Cluster, NodeSet};
use crate::sys::title;
use crate::wire::{TransactionStatus, write};
use std::time::{Duration, Instant};

/// Serves one client to its end. Returns whether it was a session: cancel requests and probes are none.
pub fn serve(mut stream: Stream, context: &mut Context) -> bool {
    let began = Instant::now();
    let deadline = Deadline::after_seconds(context.settings.authentication_timeout);
    context.refresh_cluster();
    let opening = match startup::read(&mut stream, context, deadline) {
        Ok(Some(_)) if context.refuse_sessions => {
            turn_away(stream, context, too_many());
            return false;
        }
        Ok(Some(opening)) => opening,
        Ok(None) => return false,
        Err(end) => {
            // A TLS handshake that has failed, or came too late.
            if matches!(end, End::Told) && !context.is_stopping() {
                context.shared.refusals().count(state::Refusal::ByPgpool);
            }
            finish::dismiss(Client::new(stream), &end, &origin(&context.client));
            return false;
        }
    };
    let user = String::from_utf8_lossy(&opening.key.user).into_owned();
    let database = String::from_utf8_lossy(&opening.key.database).into_owned();
    report::set_session(&user, &database);
    report::set_application_name(&String::from_utf8_lossy(&opening.application_name));
    let who = format!("user={user} database={database} {}", origin(&context.client));
    title::set_session(&format!("{user} {database} {} ", message_log::from(&context.client)));
    let mut client = Client::new(stream);
    match begin(context, &mut client, opening, deadline) {
        Ok(start) => run(context, client, start, &who),
        Err(mut end) => {
            if let End::Failed(report) = &mut end {
                refusal::by_pgpool(context, &client, report, deadline);
            }
            finish::dismiss(client, &end, &who);
        }
    }
    if context.settings.log_disconnections {
        log_disconnection(began.elapsed(), &who);
    }
    report::clear_session();
    true
}

fn turn_away(stream: Stream, context: &Context, report: Report) {
    context.shared.refusals().count(state::Refusal::TooManyClients);
    let place = refusal::place(stream.peer());
    finish::dismiss(Client::new(stream), &report.into(), &place);
}

/// What a session starts with.
struct Start {
    group: Group,
    credential: Credential,
    home: usize,
    balance: usize,
    application_name: String,
}

fn run(context: &mut Context, client: Client, start: Start, who: &str) {
    let Start { group, credential, home, balance, application_name } = start;
    let settings = &context.settings;
    let mode_balances = matches!(
        settings.backend_clustering_mode,
        BackendClusteringMode::StreamingReplication | BackendClusteringMode::LogicalReplication
    );
    // Standbys that are all too late now may be in time for a later read.
    let mut others = context.cluster.attached().iter().filter(|node| *node != home).peekable();
    let redraw = balance == home && others.peek().is_some() && others.all(|node| context.is_shunned(node));
    let follows = mode_balances
        && settings.load_balance_mode
        && (balance != home
            || redraw
            || (settings.statement_level_load_balance && context.cluster.attached().len() > 1));
    let database = String::from_utf8_lossy(&group.key.database).into_owned();
    let message_log = MessageLog::new(settings);
    let journal = Journal::opened(&group.key.startup);
    let remote = context.take_memcached();
    let caching = context.shared.query_cache().map(|cache| Box::new(Caching::new(cache, remote, group.keeps_settings)));
    let mut session = Session {
        catalog: context.take_catalog(&group, home),
        context,
        client,
        credential,
        group,
        home,
        balance,
        redraw,
        lost_home: None,
        active: home,
        batch: None,
        application_name,
        database,
        follows,
        at_home: false,
        lexing: Lexing::default(),
        statements: Statements::default(),
        portals: Portals::default(),
        journal,
        kept: Kept::default(),
        retry_next: false,
        rolled_back: false,
        changes: Changes::default(),
        excluded: NodeSet::EMPTY,
        sighted: Vec::new(),
        request_state: RequestState::Between,
        direct: Direct { node: home, length: 0 },
        answered: 0,
        blocked: false,
        congested: false,
        flush_next: false,
        terminating: false,
        fatal: false,
        message_log,
        turn: Turn::new(),
        reason: 0,
        local: Objects::default(),
        caching,
    };
    let parameters = session.group.get(home).map(|server| server.parameters.clone()).unwrap_or_default();
    for (name, value) in parameters {
        session.note_parameter(&name, &value);
    }
    let mut end = session.run().err().unwrap_or(End::Terminated);
    session.message_log.finish();
    session.end_caching();
    // A batch without its Sync is rolled back when its client leaves; a reset query would commit it.
    if session.batch.is_some() && matches!(end, End::Terminated) {
        end = End::ClientGone;
    }
    let Session { context, client, group, home, catalog, caching, .. } = session;
    let made = group.get(home).map(|server| server.created);
    context.memcached = caching.and_then(|caching| caching.answers.into_memcached());
    // The client is let go first: what is left to do for its connections does not concern it.
    finish::dismiss(client, &end, who);
    finish::release(context, group, &end);
    if let Some(made) = made {
        context.keep_catalog(catalog, made);
    }
}

/// Lets the client in, finds the servers for its session and greets it.
fn begin(context: &mut Context, client: &mut Client, opening: Opening, deadline: Deadline) -> Result<Start, End> {
    let Opening { key, minor, application_name, rest, negotiation } = opening;
    client.input.take_over(rest);
    let (user, database) = (key.user.clone(), key.database.clone());
    let end_point = client.stream.tls(tls::Session::server_end_point).flatten();
    let channel = Channel { tls: client.stream.is_tls(), end_point: end_point.as_deref() };
    let applicant = Applicant { user: &user, database: &database, channel };
    let admitted = authenticate::by_rules(context, client, applicant, deadline)?;
    let until = context.patience().min(deadline);
    let Some(home) = context.await_primary(&client.stream, until)? else { return Err(no_node(&context.cluster)) };
    let application_name = String::from_utf8_lossy(&application_name).into_owned();
    let Entered { group, credential, home } =
        enter(context, client, key, (applicant, admitted), home, (until, deadline))?;
    let balance = balance_node(context, &group.key, &application_name, home);
    trace::opened(context, &group, home, balance, minor);
    if let Some(server) = group.get(home) {
        let key = own_key(&server.cancel_key);
        context.slot.set_cancel_key(server.pid, &key);
        greet(&mut client.output, server, &key, &negotiation);
    }
    trace::idle(context, TransactionStatus::Idle);
    client.flush()?;
    Ok(Start { group, credential, home, balance, application_name })
}

/// Server connections for a client that is let in.
struct Entered {
    group: Group,
    credential: Credential,
    home: usize,
}

/// Takes a group with a connection to `home` from the pool if there is one and the client may have it, else logs in.
fn enter(
    context: &mut Context,
    client: &mut Client,
    key: Key,
    (applicant, admitted): (Applicant<'_>, Option<Admitted>),
    home: usize,
    (until, deadline): (Deadline, Deadline),
) -> Result<Entered, End> {
    let nodes = context.cluster.nodes.len();
    let made_in = context.shared.relcache().generation();
    let mut entry = Entry { applicant, admitted, demand: None, deadline };
    let pooled = context.pool.take(&key).unwrap_or_else(|slot| {
        trace::discarded(context, slot);
        None
    });
    let (pooled, kept) = match pooled {
        Some(group) if group.get(home).is_some() => match entry.may_reuse(context, client, &group, home) {
            Ok(true) => return Ok(Entered { group, credential: entry.credential(), home }),
            Ok(false) => (None, Some(group)),
            Err(end) => {
                context.pool.put(group);
                return Err(end);
            }
        },
        pooled => (pooled, None),
    };
    let log_in = |context: &mut Context, client: &mut Client, node| entry.log_in(context, client, &key.startup, node);
    let server = match context.open_primary(home, client, until, log_in) {
        Ok(server) => server,
        Err(refusal) => {
            // Who is not let in takes nothing away from those who were.
            if let Some(group) = kept {
                context.pool.put(group);
            } else if let Some(group) = pooled {
                trace::discarded(context, group.slot);
                group.close();
            }
            return Err(match refusal {
                Refusal::By(error) => refusal::by_server(context, client, applicant.user, error, deadline),
                Refusal::End(end) => end,
            });
        }
    };
    if let Some(group) = kept {
        trace::discarded(context, group.slot);
        group.close();
    }
    let home = server.node;
    let mut group = pooled.unwrap_or_else(|| {
        let group = context.pool.new_group(key, nodes, made_in);
        // The slot may have been another's, which was closed just now.
        trace::discarded(context, group.slot);
        group
    });
    group.connections.resize_with(group.connections.len().max(nodes).max(home + 1), || None);
    group.connections[home] = Some(server);
    Ok(Entered { group, credential: entry.credential(), home })
}

/// A client on its way in.
struct Entry<'a> {
    applicant: Applicant<'a>,
    /// What it has proved so far.
    admitted: Option<Admitted>,
    /// What it has proved that for, if a server has asked and not a rule.
    demand: Option<Demand>,
    deadline: Deadline,
}

impl Entry<'_> {
    fn credential(self) -> Credential {
        self.admitted.map_or(Credential::None, |admitted| admitted.credential)
    }

    /// Asks the client for what a server asks for, unless a rule has decided or the client has been asked already.
    fn admit(&mut self, context: &mut Context, client: &mut Client, demand: Demand) -> Result<&Admitted, End> {
        let is_settled = self.admitted.is_some() && self.demand.is_none_or(|known| known == demand);
        let admitted = match self.admitted.take().filter(|_| is_settled) {
            Some(admitted) => admitted,
            None => {
                self.demand = Some(demand);
                authenticate::by_demand(context, client, self.applicant, demand, self.deadline)?
            }
        };
        Ok(self.admitted.insert(admitted))
    }

    /// Whether the client may have the pooled connection to `home`.
    fn may_reuse(
        &mut self,
        context: &mut Context,
        client: &mut Client,
        pooled: &Group,
        home: usize,
    ) -> Result<bool, End> {
        let Some(server) = pooled.get(home) else { return Ok(false) };
        self.admit(context, client, server.demand).map(|admitted| authenticate::may_reuse(server, admitted))
    }

    /// Logs in to `node`, having asked the client for what it takes if that is not known yet.
    fn log_in(
        &mut self,
        context: &mut Context,
        client: &mut Client,
        startup: &[u8],
        node: usize,
    ) -> Result<ServerConnection, Refusal> {
        let address = context.address(node);
        let Self { applicant, deadline, .. } = *self;
        let limit = |context: &Context| context.connect_deadline(node).min(deadline);
        // A client that has used up its time is no reason to think ill of the server.
        let refused = |error| {
            if deadline.passed() { Refusal::End(startup::timed_out()) } else { Refusal::By(error) }
        };
        let login = Login::begin(node, &address, startup, limit(context), limit(context)).map_err(refused)?;
        let demand = login.demand();
        let admitted = self.admit(context, client, demand).map_err(Refusal::End)?;
        let mut server = login.finish(&admitted.credential, limit(context)).map_err(refused)?;
        match authenticate::confirm(&mut server, admitted, applicant) {
            Ok(()) => Ok(server),
            Err(end) => {
                server.close();
                Err(Refusal::End(end))
            }
        }
    }
}

/// The key to cancel this session with, like that of its server: who had the server connection before knows the server's.
fn own_key(servers: &[u8]) -> Vec<u8> {
    let mut key = servers.to_vec();
    // Without randomness it is the server's, as whoever was here before knows.
    let _ = openssl::rand::rand_bytes(&mut key);
    key
}

/// AuthenticationOk to ReadyForQuery, with the values of the primary, and the `key` to cancel with.
fn greet(out: &mut Vec<u8>, server: &ServerConnection, key: &[u8], negotiation: &[u8]) {
    // The servers' own negotiation tells of an older protocol; ours of what we do not understand.
    out.extend_from_slice(if server.negotiation.is_empty() { negotiation } else { &server.negotiation });
    write::authentication_ok(out);
    for (name, value) in &server.parameters {
        write::parameter_status(out, name, value);
    }
    write::backend_key_data(out, server.pid, key);
    write::ready_for_query(out, TransactionStatus::Idle);
}

/// The node for this session's reads (routing 2.1).
pub(super) fn balance_node(context: &Context, key: &Key, application_name: &str, home: usize) -> usize {
    let settings = &context.settings;
    if !settings.load_balance_mode {
        return home;
    }
    let cluster = &context.cluster;
    let delays = context.shared.delays();
    let candidates: Vec<_> = cluster
        .attached()
        .iter()
        .filter(|id| !context.is_avoided(*id))
        .map(|id| Candidate { id, weight: cluster.nodes[id].weight, delay: delays.of(id) })
        .collect();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (user, database) = (text(&key.user), text(&key.database));
    let client = route::Client { user: &user, database: &database, application_name };
    route::choose(settings, client, home, &candidates, [fastrand::f64(), fastrand::f64()])
}

fn no_node(cluster: &Cluster) -> End {
    if !cluster.attached().is_empty() {
        return Report::error("there is no primary")
            .detail("The nodes in use take writes, but were the primary before another one: they get none.")
            .hint("The log tells how such a node can return.")
            .code(SqlState::NO_NODE)
            .into();
    }
    Report::error("pgpool is not accepting any new connections")
        .detail("all backend nodes are down, pgpool requires at least one valid node")
        .hint("repair the backend nodes and restart pgpool")
        .code(SqlState::NO_NODE)
        .into()
}

/// Where a client comes from, for the log.
fn origin(client: &ClientInfo) -> String {
    match client {
        ClientInfo { host, port: 0 } => format!("host={host}"),
        ClientInfo { host, port } => format!("host={host} port={port}"),
    }
}

fn log_disconnection(time: Duration, who: &str) {
    let (seconds, milliseconds) = (time.as_secs(), time.subsec_millis());
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    Report::log_line(format!(
        "frontend disconnection: session time: {hours}:{minutes:02}:{seconds:02}.{milliseconds:03} {who}"
    ))
    .log();
}
