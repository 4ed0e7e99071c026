//! `run`: all bridges of a configuration, reloaded when it changes, until the process is told to stop.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cht_core_client::transport::{HttpTransport, Transport};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

use super::logs::start_logging;
use super::{Admin, Failure, bearer, execute, out, progress};
use crate::clock::Clock;
use crate::config::{Built, Encryption, Fixed, Loaded, Sources, StorePlace, load};
use crate::connector::ConnectorConfig;
use crate::http::serve;
use crate::http::server::Server;
use crate::outbox::Configured;
use crate::reconcile::Side;
use crate::runtime::{Bridge, BridgeOptions, Retention, Shutdown, System};
use crate::store::{Place, Store, StoreError, StoreKey, StoreOptions, make_key_file};
use crate::transport::{HttpOptions, Wiring};

/// How often the configuration file is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Where the configuration comes from, and what connectors are built with.
pub(super) struct Prepared {
    pub sources: Sources,
    pub clock: Arc<dyn Clock>,
    pub wiring: Wiring,
}

/// The real network.
pub(super) fn transport(options: &HttpOptions) -> Result<Arc<dyn Transport>, String> {
    let mut builder = HttpTransport::builder()
        .connect_timeout(options.connect_timeout)
        .timeout(options.timeout)
        .pool(options.connections)
        .user_agent(concat!("cht-connectors/", env!("CARGO_PKG_VERSION")));
    if let Some(pem) = &options.root_certificate {
        builder = builder.root_ca_pem(pem.clone());
    }
    builder.build().map(|t| Arc::new(t) as _).map_err(|e| e.to_string())
}

/// Runs until SIGTERM or SIGINT; a good new configuration takes over, a bad one is refused whole and the last good one
/// runs on.
pub(super) async fn run<C: ConnectorConfig>(
    prepared: Prepared,
    loaded: Loaded,
    make_key: bool,
) -> Result<Value, Failure> {
    let logging = start_logging(&loaded.log)?;
    let metrics = metrics_exporter_prometheus::PrometheusBuilder::new().install_recorder()?;
    let key = key(&loaded, make_key)?;
    let token = SecretString::from(uuid::Uuid::new_v4().simple().to_string());
    let mut changes = Changes::watch(&prepared.sources.file)?;
    let server = Server::new(metrics, token.clone(), prepared.clock.clone(), loaded.http.body_timeout.0);
    let listener = tokio::net::TcpListener::bind(&loaded.http.listen)
        .await
        .map_err(|e| Failure(1, format!("http.listen: {} cannot be listened on: {e}", loaded.http.listen)))?;
    let address = listener.local_addr()?;
    let mut stores = Stores::default();
    stores.open(&prepared, &loaded, key.as_ref()).await?;
    keep_token(&state_folder(&loaded, &prepared.sources.file), &token, address)?;
    let (present, stopping) = (loaded.fixed(), Shutdown::default());
    let http = serve(listener, server.clone().router(), loaded.http.clone(), stopping.clone());
    let http = tokio::spawn(http);
    let mut running = start(&prepared, loaded, &stores, &server).await?;
    out(&format!("ready http://{address}"));
    while changes.next().await {
        match next::<C>(&prepared, &present, key.as_ref(), &mut stores).await {
            Ok(loaded) => {
                running.stop().await;
                stores.keep_only(&loaded).await;
                running = start(&prepared, loaded, &stores, &server).await?;
                tracing::info!("the new configuration is good and has taken over");
            }
            Err(problems) => {
                server.refused(true);
                for problem in problems {
                    tracing::error!(problem, "the new configuration is refused; the last good one runs on");
                }
            }
        }
    }
    running.stop().await;
    stopping.stop();
    let _ = http.await;
    stores.close().await;
    logging.end().await;
    Ok(Value::Null)
}

/// A new configuration with its stores open, or all that is wrong with it. Nothing that runs is touched.
async fn next<C: ConnectorConfig>(
    prepared: &Prepared,
    present: &Fixed,
    key: Option<&StoreKey>,
    stores: &mut Stores,
) -> Result<Loaded, Vec<String>> {
    let loaded = load::<C>(&prepared.sources, &prepared.wiring)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    if loaded.fixed() != *present {
        let text = "store, encryption, http, log and threads change with a restart only; restart, or take the change back";
        return Err(vec![text.to_owned()]);
    }
    match stores.open(prepared, &loaded, key).await {
        Ok(()) => Ok(loaded),
        Err(error) => Err(vec![error.to_string()]),
    }
}

/// The open stores, by bridge: they stay open while a new configuration takes over.
#[derive(Default)]
struct Stores(BTreeMap<String, Store>);

impl Stores {
    async fn open(
        &mut self,
        prepared: &Prepared,
        loaded: &Loaded,
        key: Option<&StoreKey>,
    ) -> Result<(), StoreError> {
        for bridge in &loaded.bridges {
            if !self.0.contains_key(&bridge.name) {
                let options = place(&loaded.store, &bridge.name, key.cloned());
                let store = Store::open(&options, prepared.clock.clone()).await?;
                self.0.insert(bridge.name.clone(), store);
            }
        }
        Ok(())
    }

    async fn keep_only(&mut self, loaded: &Loaded) {
        let gone: Vec<_> =
            self.0.keys().filter(|n| !loaded.bridges.iter().any(|b| b.name == **n)).cloned().collect();
        for name in gone {
            if let Some(store) = self.0.remove(&name) {
                store.close().await;
            }
        }
    }

    async fn close(self) {
        for store in self.0.into_values() {
            store.close().await;
        }
    }
}

/// Bridges at work.
struct Running {
    shutdown: Shutdown,
    loops: JoinSet<()>,
}

impl Running {
    /// What is under way is settled, nothing new is begun.
    async fn stop(&mut self) {
        self.shutdown.stop();
        while self.loops.join_next().await.is_some() {}
    }
}

async fn start(
    prepared: &Prepared,
    loaded: Loaded,
    stores: &Stores,
    server: &Server,
) -> Result<Running, Failure> {
    let (shutdown, mut loops, mut bridges) = (Shutdown::default(), JoinSet::new(), vec![]);
    let retention = Retention::from(loaded.retention);
    let alone = !matches!(loaded.store, StorePlace::Postgres(_));
    for built in loaded.bridges {
        let Some(store) = stores.0.get(&built.name) else { continue };
        let bridge = Arc::new(bridge(built, store.clone(), prepared.clock.clone(), alone).await?);
        bridges.push(bridge.clone());
        loops.spawn(keep_running(bridge, shutdown.clone(), retention));
    }
    server.serve(bridges);
    Ok(Running { shutdown, loops })
}

/// A bridge whose store fails at its start is started again.
async fn keep_running(bridge: Arc<Bridge>, shutdown: Shutdown, retention: Retention) {
    while let Err(error) = bridge.clone().run(shutdown.clone(), retention).await {
        tracing::error!(bridge = bridge.name, error = %error, "the bridge could not start; it is started again");
        tokio::select! {
            () = shutdown.stopped() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

async fn bridge(
    built: Built,
    store: Store,
    clock: Arc<dyn Clock>,
    alone: bool,
) -> Result<Bridge, StoreError> {
    let tuning = built.tuning;
    let digest = store.crypt().digest(&[b"configuration", built.text.as_bytes()]);
    let [a, b, c, d, e, f, g, h, ..] = digest;
    let config = i64::from_be_bytes([a, b, c, d, e, f, g, h]);
    store.run(Configured { digest: config }).await?;
    let owner = uuid::Uuid::new_v4().as_u64_pair().0 >> 1;
    let options = BridgeOptions {
        policies: built.policies,
        begin: built.begin,
        lease: tuning.lease.0,
        aside: tuning.aside.0,
        page: tuning.page,
        take: tuning.take,
        workers: tuning.workers,
        high_water: tuning.high_water,
        config,
        owner: i64::try_from(owner).unwrap_or(1).max(1),
        alone,
        rules: rules(),
    };
    let cht = System::new(built.cht.0, Side::Cht, built.cht.1);
    let partner = System::new(built.partner.0, Side::Partner, built.partner.1);
    Ok(Bridge::new(built.name, store, clock, cht, partner, options))
}

/// Which rules hold: all of them, but in a build that is to be seen failing.
#[cfg(not(feature = "mutation"))]
fn rules() -> crate::rules::Rules {
    crate::rules::Rules::all()
}

#[cfg(feature = "mutation")]
fn rules() -> crate::rules::Rules {
    use crate::rules::{Rule, Rules};
    match std::env::var("CONNECTOR_WITHOUT_RULE").as_deref() {
        Ok("field-base") => Rules::all().without(Rule::FieldBase),
        Ok("echo-barrier") => Rules::all().without(Rule::EchoBarrier),
        Ok("absence") => Rules::all().without(Rule::Absence),
        _ => Rules::all(),
    }
}

/// When the configuration is to be looked at again: SIGHUP, or the file is another one.
struct Changes {
    file: PathBuf,
    seen: Option<SystemTime>,
    hangup: Signal,
    terminate: Signal,
}

impl Changes {
    fn watch(file: &Path) -> Result<Self, Failure> {
        Ok(Self {
            file: file.to_owned(),
            seen: modified(file),
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Whether there is something to look at; `false` once the process is told to stop.
    async fn next(&mut self) -> bool {
        loop {
            let asked = tokio::select! {
                _ = tokio::signal::ctrl_c() => return false,
                _ = self.terminate.recv() => return false,
                _ = self.hangup.recv() => true,
                () = tokio::time::sleep(LOOK) => false,
            };
            let now = modified(&self.file);
            if std::mem::replace(&mut self.seen, now) != now || asked {
                return true;
            }
        }
    }
}

fn modified(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|m| m.modified()).ok()
}

fn place(store: &StorePlace, bridge: &str, key: Option<StoreKey>) -> StoreOptions {
    let place = match store {
        StorePlace::Memory => Place::Memory,
        StorePlace::Sqlite(folder) => Place::Sqlite { path: folder.join(format!("{bridge}.sqlite")) },
        StorePlace::Postgres(pg) => Place::Postgres {
            url: pg.url.secret().clone(),
            schema: format!("cht_{bridge}"),
            pool: pg.pool,
            engine_time: false,
        },
    };
    StoreOptions { place, key }
}

/// The key of the configuration. Without one nothing runs, unless the configuration says so.
fn key(loaded: &Loaded, make: bool) -> Result<Option<StoreKey>, Failure> {
    if let StorePlace::Sqlite(folder) = &loaded.store {
        std::fs::create_dir_all(folder)?;
    }
    match &loaded.encryption {
        Some(Encryption::Off) => Ok(None),
        Some(Encryption::KeyFile(path)) if make && !path.exists() => {
            let made = make_key_file(path)?;
            tracing::warn!(file = %path.display(), "made a key file; keep a copy apart from the store: nothing opens the store without it");
            Ok(Some(made))
        }
        Some(Encryption::KeyFile(path)) if !path.exists() => Err(Failure(
            2,
            format!("encryption.key_file: {} is not there; `run --make-key` makes one for a new store", path.display()),
        )),
        Some(Encryption::KeyFile(path)) => Ok(Some(StoreKey::from_file(path)?)),
        None => Err(Failure(
            2,
            "encryption: is missing; name a key file (`encryption: { key_file: ./data/key }`, made by `run --make-key`), or say `encryption: off`".into(),
        )),
    }
}

fn state_folder(loaded: &Loaded, file: &Path) -> PathBuf {
    match &loaded.store {
        StorePlace::Sqlite(folder) => folder.clone(),
        _ => file.parent().map(Path::to_owned).unwrap_or_default(),
    }
}

/// Where the command line finds the running process: address and token, readable by its own user only.
fn keep_token(folder: &Path, token: &SecretString, address: SocketAddr) -> Result<(), Failure> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let path = folder.join("admin");
    let _ = std::fs::remove_file(&path);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    write!(file, "{address}\n{}", bearer(token))?;
    Ok(())
}

/// Seals the stores of all bridges with the key of `file`, or with none.
pub(super) async fn rotate(
    prepared: &Prepared,
    loaded: &Loaded,
    file: Option<PathBuf>,
) -> Result<Value, Failure> {
    let old = key(loaded, false)?;
    let new = match &file {
        Some(file) if file.exists() => Some(StoreKey::from_file(file)?),
        Some(file) => Some(make_key_file(file)?),
        None => None,
    };
    let bar = progress("values sealed");
    for bridge in &loaded.bridges {
        let place = place(&loaded.store, &bridge.name, None).place;
        let told = |count| bar.set_position(count);
        Store::rotate(&place, old.as_ref(), new.as_ref(), prepared.clock.clone(), told).await?;
    }
    bar.finish_and_clear();
    Ok(
        json!({ "encryption": file.map_or(json!("off"), |f| json!({ "key_file": f })), "next": "put this into the configuration" }),
    )
}

/// Asks the running process or, where none runs, the store itself.
pub(super) async fn ask(
    prepared: &Prepared,
    loaded: &Loaded,
    bridge: Option<&str>,
    admin: Admin,
) -> Result<Value, Failure> {
    let name = match (bridge, loaded.bridges.as_slice()) {
        (Some(name), all) if all.iter().any(|b| b.name == name) => name.to_owned(),
        (None, [only]) => only.name.clone(),
        _ => return Err(Failure(2, "name one of the configured bridges with --bridge".into())),
    };
    let options = place(&loaded.store, &name, key(loaded, false)?);
    match Store::open(&options, prepared.clock.clone()).await {
        Ok(store) => {
            let value = execute(&store, admin).await;
            store.close().await;
            Ok(value?)
        }
        Err(StoreError::InUse(_)) => {
            over_http(&state_folder(loaded, &prepared.sources.file), &name, &admin).await
        }
        Err(error) => Err(error.into()),
    }
}

async fn over_http(folder: &Path, bridge: &str, admin: &Admin) -> Result<Value, Failure> {
    let text = std::fs::read_to_string(folder.join("admin"))?;
    let Some((address, token)) = text.split_once('\n') else {
        return Err(Failure(1, "the file `admin` beside the store is damaged; restart the connector".into()));
    };
    let answer = reqwest::Client::new()
        .post(format!("http://{address}/admin/{bridge}"))
        .header("authorization", token)
        .json(admin)
        .timeout(Duration::from_secs(60))
        .send()
        .await?;
    let good = answer.status().is_success();
    let value: Value = answer.json().await?;
    if good { Ok(value) } else { Err(Failure(1, value.to_string())) }
}
