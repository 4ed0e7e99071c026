//! `run`: all bridges of a configuration, reloaded when it changes, until the process is told to stop.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cht_core_client::transport::{HttpTransport, Transport};
use secrecy::SecretString;
use serde_json::Value;
use tokio::task::JoinSet;

use super::{Admin, Failure, bearer, execute, out};
use crate::clock::Clock;
use crate::config::{Built, Encryption, Level, Loaded, Log, LogFormat, Sources, StorePlace, load};
use crate::connector::ConnectorConfig;
use crate::http::server::Server;
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

/// Runs until SIGTERM or SIGINT; a good new configuration takes over, a bad one is refused and the last good one runs
/// on.
pub(super) async fn run<C: ConnectorConfig>(
    prepared: Prepared,
    mut loaded: Loaded,
    make_key: bool,
) -> Result<Value, Failure> {
    log(&loaded.log);
    let metrics = metrics_exporter_prometheus::PrometheusBuilder::new().install_recorder()?;
    let key = key(&loaded, make_key)?;
    let token = SecretString::from(uuid::Uuid::new_v4().simple().to_string());
    let folder = state_folder(&loaded, &prepared.sources.file);
    let server = Server::new(metrics, token.clone());
    let listener = tokio::net::TcpListener::bind(&loaded.http.listen).await?;
    let address = listener.local_addr()?;
    keep_token(&folder, &token, address)?;
    let app = server.clone().router().into_make_service_with_connect_info::<SocketAddr>();
    let stopping = Shutdown::default();
    let end = stopping.clone();
    let http = tokio::spawn(async move {
        axum::serve(listener, app).with_graceful_shutdown(async move { end.stopped().await }).await
    });
    let mut announced = false;
    loop {
        let running = start(&prepared, loaded, key.clone(), &server).await?;
        if !announced {
            out(&format!("ready http://{address}"));
            announced = true;
        }
        match running.until_changed::<C>(&prepared).await {
            Some(next) => loaded = next,
            None => break,
        }
    }
    stopping.stop();
    let _ = tokio::time::timeout(Duration::from_secs(5), http).await;
    Ok(Value::Null)
}

/// Bridges at work.
struct Running {
    shutdown: Shutdown,
    loops: JoinSet<()>,
    stores: Vec<Store>,
}

async fn start(
    prepared: &Prepared,
    loaded: Loaded,
    key: Option<StoreKey>,
    server: &Server,
) -> Result<Running, Failure> {
    let (shutdown, mut loops, mut stores, mut bridges) =
        (Shutdown::default(), JoinSet::new(), vec![], vec![]);
    let retention = Retention::from(loaded.retention);
    for built in loaded.bridges {
        let store =
            Store::open(&place(&loaded.store, &built.name, key.clone()), prepared.clock.clone()).await?;
        let alone = !matches!(loaded.store, StorePlace::Postgres(_));
        let bridge = Arc::new(bridge(built, store.clone(), prepared.clock.clone(), alone));
        bridges.push(bridge.clone());
        stores.push(store);
        let shutdown = shutdown.clone();
        loops.spawn(async move {
            if let Err(error) = bridge.clone().run(shutdown, retention).await {
                tracing::error!(bridge = bridge.name, error = %error, "the bridge cannot run");
            }
        });
    }
    server.serve(bridges);
    Ok(Running { shutdown, loops, stores })
}

fn bridge(built: Built, store: Store, clock: Arc<dyn Clock>, alone: bool) -> Bridge {
    let tuning = built.tuning;
    let digest = store.crypt().digest(&[b"configuration", built.text.as_bytes()]);
    let [a, b, c, d, e, f, g, h, ..] = digest;
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
        config: i64::from_be_bytes([a, b, c, d, e, f, g, h]),
        owner: i64::try_from(owner).unwrap_or(1).max(1),
        alone,
        rules: rules(),
    };
    let cht = System::new(built.cht.0, Side::Cht, built.cht.1);
    let partner = System::new(built.partner.0, Side::Partner, built.partner.1);
    Bridge::new(built.name, store, clock, cht, partner, options)
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

impl Running {
    /// Runs until the process is told to stop (`None`) or a good new configuration is there.
    async fn until_changed<C: ConnectorConfig>(mut self, prepared: &Prepared) -> Option<Loaded> {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut hangup), Ok(mut terminate)) =
            (signal(SignalKind::hangup()), signal(SignalKind::terminate()))
        else {
            return None;
        };
        let mut seen = modified(&prepared.sources.file);
        let next = loop {
            let asked = tokio::select! {
                _ = tokio::signal::ctrl_c() => break None,
                _ = terminate.recv() => break None,
                _ = hangup.recv() => true,
                () = tokio::time::sleep(LOOK) => modified(&prepared.sources.file) != seen,
            };
            if !asked {
                continue;
            }
            seen = modified(&prepared.sources.file);
            match load::<C>(&prepared.sources, &prepared.wiring) {
                Ok(loaded) => {
                    tracing::info!("the new configuration is good and takes over");
                    break Some(loaded);
                }
                Err(problems) => {
                    for problem in problems {
                        tracing::error!(problem = %problem, "the new configuration is refused; the last good one runs on");
                    }
                }
            }
        };
        self.shutdown.stop();
        while self.loops.join_next().await.is_some() {}
        for store in self.stores {
            store.close().await;
        }
        next
    }
}

fn modified(file: &Path) -> Option<std::time::SystemTime> {
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

fn log(log: &Log) {
    let level = match log.level {
        Level::Error => tracing::Level::ERROR,
        Level::Warn => tracing::Level::WARN,
        Level::Info => tracing::Level::INFO,
        Level::Debug => tracing::Level::DEBUG,
    };
    let builder =
        tracing_subscriber::fmt().with_max_level(level).with_ansi(false).with_writer(std::io::stderr);
    match log.format {
        LogFormat::Json => builder.json().init(),
        LogFormat::Text => builder.init(),
    }
}
