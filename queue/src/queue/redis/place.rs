//! Where the server is: the forms of its URL, and how a connection to each form is opened.
//!
//! Owns the secrets of the URL; what it shows of the place has none.

use super::tls;
use redis::aio::{ConnectionLike, MultiplexedConnection, PubSub};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    Pipeline, RedisError, RedisFuture, RedisResult, TlsCertificates, TlsMode, Value,
};
use std::future::Future;
use std::time::Duration;
use tokio::sync::Mutex;

/// A server that takes longer to accept a connection is not there.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A server that takes longer to answer is gone. No command that blocks goes this way.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a cluster's client tries again by itself.
const CLUSTER_RETRIES: u32 = 3;
/// The scheme, or its first part, of a URL with TLS.
const SECURE: &str = "rediss";

/// What a URL names.
pub struct Place {
    kind: Kind,
    /// The URL without secrets.
    shown: String,
    /// The database's number: channels are not kept apart by it, so their names carry it.
    db: i64,
}

enum Kind {
    Single(Box<Client>),
    Sentinel(Box<Mutex<SentinelClient>>),
    Cluster {
        client: Box<ClusterClient>,
        /// Any node takes part in the whole cluster's publishing.
        seeds: Vec<Client>,
    },
}

/// A connection for commands that do not block.
#[derive(Clone)]
pub enum Wire {
    /// To one server.
    Single(MultiplexedConnection),
    /// To a cluster: each command goes to the node that has its keys.
    Cluster(ClusterConnection),
}

impl ConnectionLike for Wire {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Wire::Single(wire) => wire.req_packed_command(cmd),
            Wire::Cluster(wire) => wire.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Wire::Single(wire) => wire.req_packed_commands(pipeline, offset, count),
            Wire::Cluster(wire) => wire.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Wire::Single(wire) => wire.get_db(),
            Wire::Cluster(wire) => wire.get_db(),
        }
    }
}

impl Place {
    /// Reads a URL: `redis://[[user]:password@]host[:port][/db]`, `rediss://` with TLS, and for
    /// each of the two `+sentinel://…@h1:p,h2:p/master[/db]` and `+cluster://…@h1:p,h2:p`. What
    /// those with TLS may have behind a `?` is said in `tls.rs`.
    ///
    /// # Errors
    /// A sentence that says what the URL should look like, without the URL's secrets.
    pub fn parse(url: &str) -> Result<Place, String> {
        let (scheme, rest) = url.split_once("://").ok_or(
            "a Redis URL looks like redis://host:6379, rediss://…, redis+sentinel://h1,h2/master or redis+cluster://h1,h2",
        )?;
        let (plain, kind) = match scheme.split_once('+') {
            Some((plain, kind)) => (plain, Some(kind)),
            None => (scheme, None),
        };
        if !matches!(plain, "redis" | SECURE) {
            return Err(format!(
                "{scheme}:// is not a Redis URL: it begins with redis or rediss"
            ));
        }
        let (secret, hosts) = match rest.rsplit_once('@') {
            Some((secret, hosts)) => (format!("{secret}@"), hosts),
            None => (String::new(), rest),
        };
        let (hosts, parameters) = match hosts.split_once('?') {
            Some((hosts, parameters)) => (hosts, parameters),
            None => (hosts, ""),
        };
        let shown = format!("{scheme}://{}", hosts.split('#').next().unwrap_or(""));
        let unusable = |reason| format!("{shown} cannot be used: {reason}");
        let parts = Parts {
            scheme: plain,
            secret: &secret,
            hosts,
            certificates: tls::certificates(plain == SECURE, parameters).map_err(unusable)?,
        };
        let made = match kind {
            None => parts.single(),
            Some("sentinel") => parts.sentinel(),
            Some("cluster") => parts.cluster(),
            Some(_) => return Err(format!("{scheme}:// is neither +sentinel nor +cluster")),
        };
        let (kind, db) = made.map_err(unusable)?;
        Ok(Place { kind, shown, db })
    }

    /// The URL without secrets.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The database's number.
    pub fn db(&self) -> i64 {
        self.db
    }

    /// Opens a connection for commands.
    pub async fn wire(&self) -> RedisResult<Wire> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        if let Kind::Cluster { client, .. } = &self.kind {
            return Ok(Wire::Cluster(soon(client.get_async_connection()).await?));
        }
        let client = self.client(0).await?;
        let opened = client.get_multiplexed_async_connection_with_config(&config);
        Ok(Wire::Single(soon(opened).await?))
    }

    /// Opens a connection to one server, for what is asked of servers and not of keys.
    pub async fn server(&self) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        let mut failure = None;
        for turn in 0..self.turns() {
            let client = self.client(turn).await?;
            let opened = client.get_multiplexed_async_connection_with_config(&config);
            match soon(opened).await {
                Ok(opened) => return Ok(opened),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(too_late))
    }

    /// Opens a connection that listens. `turn`: how often it was tried before.
    pub async fn ears(&self, turn: usize) -> RedisResult<PubSub> {
        let client = self.client(turn).await?;
        soon(client.get_async_pubsub()).await
    }

    fn turns(&self) -> usize {
        match &self.kind {
            Kind::Cluster { seeds, .. } => seeds.len(),
            _ => 1,
        }
    }

    /// Whom to speak to, if it is one server.
    async fn client(&self, turn: usize) -> RedisResult<Client> {
        match &self.kind {
            Kind::Single(client) => Ok(Client::clone(client)),
            Kind::Sentinel(sentinel) => {
                soon(async { sentinel.lock().await.async_get_client().await }).await
            }
            Kind::Cluster { seeds, .. } => Ok(seeds[turn % seeds.len()].clone()),
        }
    }
}

async fn soon<T>(opening: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    // Finding a master or a cluster's map takes several connections.
    let patience = CONNECT_TIMEOUT * 2;
    (tokio::time::timeout(patience, opening).await).unwrap_or_else(|_| Err(too_late()))
}

fn too_late() -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "it did not answer in time").into()
}

fn tcp() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

struct Parts<'a> {
    scheme: &'a str,
    /// `user:password@` or empty.
    secret: &'a str,
    /// The URL from there on, without parameters.
    hosts: &'a str,
    certificates: Option<TlsCertificates>,
}

impl Parts<'_> {
    fn info(&self, host: &str) -> Result<ConnectionInfo, String> {
        let url = format!("{}://{}{host}", self.scheme, self.secret);
        let info = url.as_str().into_connection_info();
        // What the driver says may repeat the URL.
        let info = info.map_err(|_| {
            "the URL cannot be read; are special characters of the password percent-encoded?"
                .to_owned()
        })?;
        Ok(info.set_tcp_settings(tcp()))
    }

    fn infos(&self, hosts: &str) -> Result<Vec<ConnectionInfo>, String> {
        hosts.split(',').map(|host| self.info(host)).collect()
    }

    fn open(&self, info: ConnectionInfo) -> Result<Client, String> {
        let client = match &self.certificates {
            Some(certificates) => Client::build_with_tls(info, certificates.clone()),
            None => Client::open(info),
        };
        client.map_err(|error| error.to_string())
    }

    fn single(&self) -> Result<(Kind, i64), String> {
        let info = self.info(self.hosts)?;
        let db = info.redis_settings().db();
        Ok((Kind::Single(Box::new(self.open(info)?)), db))
    }

    fn cluster(&self) -> Result<(Kind, i64), String> {
        let hosts = self.hosts.trim_end_matches('/');
        let infos = self.infos(hosts)?;
        let mut builder = ClusterClientBuilder::new(infos.clone())
            .connection_timeout(CONNECT_TIMEOUT)
            .response_timeout(RESPONSE_TIMEOUT)
            .retries(CLUSTER_RETRIES)
            .tcp_settings(tcp());
        if self.scheme == SECURE {
            builder = builder.tls(TlsMode::Secure);
        }
        if let Some(certificates) = &self.certificates {
            builder = builder.certs(certificates.clone());
        }
        let client = Box::new(builder.build().map_err(|error| error.to_string())?);
        let seeds: Result<Vec<Client>, String> =
            infos.into_iter().map(|info| self.open(info)).collect();
        let seeds = seeds?;
        Ok((Kind::Cluster { client, seeds }, 0))
    }

    fn sentinel(&self) -> Result<(Kind, i64), String> {
        let (hosts, rest) = self
            .hosts
            .split_once('/')
            .ok_or("a Sentinel URL ends with /master")?;
        let (master, db) = rest.split_once('/').unwrap_or((rest, "0"));
        let db: i64 = db.parse().map_err(|_| "the database is a number")?;
        if master.is_empty() {
            return Err("a Sentinel URL ends with /master".to_owned());
        }
        // Sentinels listen on a port of their own.
        let named = |host: &str| match host.contains(':') {
            true => host.to_owned(),
            false => format!("{host}:26379"),
        };
        let hosts: Vec<String> = hosts.split(',').map(named).collect();
        let infos = self.infos(&hosts.join(","))?;
        let settings = infos[0].redis_settings().clone();
        let addresses: Vec<ConnectionAddr> = infos.iter().map(|info| info.addr().clone()).collect();
        let mut builder = SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)
            .map_err(|error| error.to_string())?
            .set_client_to_redis_db(db)
            .set_client_to_redis_tcp_settings(tcp())
            .set_client_to_sentinel_tcp_settings(tcp());
        if let Some(user) = settings.username() {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = settings.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if self.scheme == SECURE {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        }
        if let Some(certificates) = &self.certificates {
            builder = builder
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates.clone());
        }
        let client = builder.build().map_err(|error| error.to_string())?;
        Ok((Kind::Sentinel(Box::new(Mutex::new(client))), db))
    }
}
