//! One client: its keys, its channels, and what it may ask of them.
//!
//! Everything here runs inside the session's only task, so nothing may wait for a process. Flow
//! control: russh refills a channel's window as data arrives, whoever reads it. While a reader is
//! behind, [`Connection::adjust_window`] lets the window shrink to two bytes, the smallest russh
//! can recover from, and each such crumb is held back a little; so a stuck reader costs a few MiB
//! and no deadlock, and everything else on the connection goes on.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use banger_proto::guest_contract::SESSION_USER_VARIABLE;
use russh::keys::PublicKey;
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelWriteHalf, Pty, Sig};
use tokio::sync::mpsc;

use super::inbox::{Inbox, Outlet, inbox};
use super::process::{self, Launch, Order, Program, Refusal};
use super::terminal::Size;
use super::{Shared, environment, forward};
use crate::passwd;

const FULL_WINDOW: u32 = 2 << 20;
/// russh refills below half of the target, so a smaller one would never be refilled.
const CONGESTED_WINDOW: u32 = 2;
const CRUMB_DELAY: Duration = Duration::from_millis(20);
const VARIABLES_LIMIT: usize = 256;
/// Where distributions keep their SFTP server.
const SFTP_SERVERS: [&str; 4] = [
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/lib/ssh/sftp-server",
    "/usr/libexec/sftp-server",
];

/// What a channel needs until its process is asked for.
struct Prepared {
    channel: ChannelWriteHalf<Msg>,
    outlet: Outlet,
    received: mpsc::UnboundedReceiver<Order>,
    variables: Vec<(String, String)>,
    terminal: Option<Size>,
}

struct Open {
    inbox: Inbox,
    /// Dropped with the channel, which tells the process that the client is gone.
    orders: mpsc::UnboundedSender<Order>,
    prepared: Option<Prepared>,
}

/// The handler russh calls.
pub struct Connection {
    shared: Arc<Shared>,
    /// Who the client logged in as.
    login: String,
    authenticated: Arc<AtomicBool>,
    channels: HashMap<ChannelId, Open>,
}

impl Connection {
    /// A connection nobody has authenticated yet.
    pub fn new(shared: Arc<Shared>, authenticated: Arc<AtomicBool>) -> Self {
        Self { shared, login: String::new(), authenticated, channels: HashMap::new() }
    }

    /// A key is root's, and root may be anybody who exists.
    fn allows(&self, user: &str, key: &PublicKey) -> bool {
        let known = self.shared.authorized.iter().any(|known| known.key_data() == key.key_data());
        known && !user.is_empty() && passwd::look_up(user).is_ok()
    }

    /// Whose session it is: see the module's header.
    fn session_user<'a>(&'a self, variables: &'a [(String, String)]) -> &'a str {
        let chosen = variables.iter().rev().find(|(name, _)| name == SESSION_USER_VARIABLE);
        match chosen.map(|(_, value)| value.as_str()) {
            None => &self.login,
            Some("") => &self.shared.settings.user,
            Some(user) => user,
        }
    }

    fn prepared(&mut self, id: ChannelId) -> Option<&mut Prepared> {
        self.channels.get_mut(&id)?.prepared.as_mut()
    }

    fn start(&mut self, id: ChannelId, program: Program, session: &mut Session) -> Result<(), russh::Error> {
        let Some(prepared) = self.channels.get_mut(&id).and_then(|open| open.prepared.take()) else {
            return session.channel_failure(id);
        };
        session.channel_success(id)?;
        let settings = &self.shared.settings;
        let launch = passwd::look_up(self.session_user(&prepared.variables)).map(|mut account| {
            account.shell = environment::shell(&account.shell, &settings.environment);
            let mut directories = vec![account.home.clone(), PathBuf::from("/")];
            if !settings.working_directory.is_empty() {
                directories.insert(0, settings.working_directory.clone().into());
            }
            Launch {
                program,
                environment: environment::compose(&account, &settings.environment, &prepared.variables),
                account,
                directories,
                terminal: prepared.terminal,
            }
        });
        let Prepared { channel, outlet, received, .. } = prepared;
        let wire = process::Wire { channel, session: session.handle(), outlet, orders: received };
        let end = self.shared.end.clone();
        match launch {
            _ if end.is_under_way() => tokio::spawn(process::refuse(Refusal::Ending, wire)),
            Ok(launch) => tokio::spawn(process::run(launch, wire, end)),
            Err(unknown) => tokio::spawn(process::refuse(Refusal::Unknown(unknown), wire)),
        };
        Ok(())
    }

    fn answer(&self, id: ChannelId, accepted: Option<()>, session: &mut Session) -> Result<(), russh::Error> {
        match accepted {
            Some(()) => session.channel_success(id),
            None => session.channel_failure(id),
        }
    }

    fn order(&self, id: ChannelId, order: Order) -> Option<()> {
        self.channels.get(&id)?.orders.send(order).ok()
    }
}

fn auth(allowed: bool) -> Auth {
    if allowed { Auth::Accept } else { Auth::reject() }
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Self::Error> {
        Ok(auth(self.allows(user, offer.public_key)))
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let allowed = self.allows(user, key.public_key);
        user.clone_into(&mut self.login);
        self.authenticated.store(allowed, Ordering::Relaxed);
        Ok(auth(allowed))
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        // The read half is dropped: `data` below receives everything, without russh's bounded queue.
        let (_, channel) = channel.split();
        let (inbox, outlet) = inbox();
        let (orders, received) = mpsc::unbounded_channel();
        let id = channel.id();
        let prepared = Prepared { channel, outlet, received, variables: Vec::new(), terminal: None };
        self.channels.insert(id, Open { inbox, orders, prepared: Some(prepared) });
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        // A refused open has no close message; forget those whose task has ended.
        self.channels.retain(|_, open| !open.orders.is_closed());
        let (_, channel) = channel.split();
        let (inbox, outlet) = inbox();
        let (orders, gone) = mpsc::unbounded_channel();
        self.channels.insert(channel.id(), Open { inbox, orders, prepared: None });
        let own = self.shared.settings.address;
        let targets = u16::try_from(port).map(|port| forward::targets(host, port, own)).unwrap_or_default();
        tokio::spawn(forward::run(targets, forward::Wire { channel, outlet, gone }, reply));
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        self.channels.remove(&id);
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        if let Some(open) = self.channels.get(&id) {
            open.inbox.end();
        }
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], _: &mut Session) -> Result<(), Self::Error> {
        if let Some(open) = self.channels.get(&id) {
            open.inbox.push(data);
            if data.len() <= CONGESTED_WINDOW as usize && open.inbox.is_congested() {
                open.inbox.drained_within(CRUMB_DELAY).await;
            }
        }
        Ok(())
    }

    fn adjust_window(&mut self, _: ChannelId, _: u32) -> u32 {
        let congested = self.channels.values().any(|open| open.inbox.is_congested());
        if congested { CONGESTED_WINDOW } else { FULL_WINDOW }
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        _: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let accepted = self.prepared(id).map(|prepared| {
            prepared.terminal = Some(Size { fields: [columns, rows, width, height] });
            prepared.variables.push(("TERM".into(), term.into()));
        });
        self.answer(id, accepted, session)
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let accepted = self
            .prepared(id)
            .filter(|prepared| environment::is_accepted(name) && prepared.variables.len() < VARIABLES_LIMIT)
            .map(|prepared| prepared.variables.push((name.into(), value.into())));
        self.answer(id, accepted, session)
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        self.start(id, Program::Login, session)
    }

    async fn exec_request(&mut self, id: ChannelId, data: &[u8], session: &mut Session) -> Result<(), Self::Error> {
        self.start(id, Program::Command(data.to_vec()), session)
    }

    async fn subsystem_request(&mut self, id: ChannelId, name: &str, session: &mut Session) -> Result<(), Self::Error> {
        let server = SFTP_SERVERS.iter().map(PathBuf::from).find(|path| name == "sftp" && path.is_file());
        match server {
            Some(path) => self.start(id, Program::Path(path), session),
            None => session.channel_failure(id),
        }
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        columns: u32,
        rows: u32,
        width: u32,
        height: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let accepted = self.order(id, Order::Resize(Size { fields: [columns, rows, width, height] }));
        self.answer(id, accepted, session)
    }

    async fn signal(&mut self, id: ChannelId, signal: Sig, _: &mut Session) -> Result<(), Self::Error> {
        let _ = self.order(id, Order::Signal(signal));
        Ok(())
    }
}
