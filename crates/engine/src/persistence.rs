//! `persistence` of `workflow-controller-configmap`: what is archived, for how long, and in which database. It only reads
//! what is said there; passwords are in Secrets, whose names are all that this knows of them.

use serde_json::{Map, Value};

/// What `persistence` says of the archive.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Archiving {
    /// `archive`; where it is not said, it depends on where the archive is.
    pub on: Option<bool>,
    /// `archiveTTL` in milliseconds; for ever where it is not said.
    pub ttl_ms: Option<i64>,
    /// `archiveLabelSelector`; all of them where it is not said.
    pub selector: Option<Value>,
    /// `postgresql`, or what is wrong with it: whoever does not use it does not mind.
    pub database: Option<Result<Database, String>>,
}

/// A key of a Secret beside the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretKey {
    /// The Secret's name.
    pub name: String,
    /// The key in it.
    pub key: String,
}

/// `sslMode`, with what `ssl` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted where the server can.
    Prefer,
    /// Always encrypted.
    Require,
    /// The certificate is looked at, too.
    VerifyCa,
    /// And whose it is.
    VerifyFull,
}

/// `postgresql`, and what else `persistence` says of the connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Database {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The database's name.
    pub database: String,
    /// `tableName`: Argo's table of offloaded nodes.
    pub offload_table: String,
    /// Where the user's name is.
    pub user: SecretKey,
    /// Where its password is.
    pub password: SecretKey,
    /// How it is encrypted.
    pub ssl: SslMode,
    /// `clusterName`: whose rows are ours.
    pub cluster: String,
    /// Whether tables may be made: not with `skipMigration`.
    pub makes_tables: bool,
    /// So many connections at a time.
    pub connections_max: usize,
    /// So many are kept when nobody needs them.
    pub idle_max: usize,
    /// A connection is not used for longer.
    pub lifetime_ms: Option<i64>,
}

/// Where it is not said, and at most: one controller asks little at a time.
const CONNECTIONS: (usize, usize) = (4, 32);
const IDLE: usize = 2;
/// The settings that only count with a database.
const OF_DATABASE: [&str; 3] = ["connectionPool", "clusterName", "skipMigration"];

impl Archiving {
    /// Reads `persistence`; the keys that have no effect anywhere are told too.
    pub(crate) fn read(mut value: Value) -> Result<(Self, Vec<String>), String> {
        let Some(settings) = value.as_object_mut() else { return Err("it is a map of settings".to_owned()) };
        let on = match settings.remove("archive") {
            None | Some(Value::Null) => None,
            Some(Value::Bool(on)) => Some(on),
            Some(_) => return Err("archive: it is true or false".to_owned()),
        };
        let ttl_ms = match settings.remove("archiveTTL") {
            None | Some(Value::Null) => None,
            Some(text) => duration(&text).map_err(|e| format!("archiveTTL: {e}"))?,
        };
        let selector = settings.remove("archiveLabelSelector").filter(|v| !v.is_null());
        if selector.as_ref().is_some_and(|s| !s.is_object()) {
            return Err("archiveLabelSelector: it has matchLabels and matchExpressions".to_owned());
        }
        // Large tables are kept beside their workflow wherever they do not fit into it; there is nothing to switch on.
        settings.remove("nodeStatusOffLoad");
        let mut ignored = Vec::new();
        let mut database = None;
        if let Some(said) = settings.get("postgresql").filter(|v| !v.is_null()) {
            // Passwords of these clouds are made anew all the time, by their own rules.
            let token = ["azureToken", "awsRDSToken"].into_iter().find(|token| said[*token]["enabled"] == true);
            match token {
                Some(token) => ignored.push(format!("persistence.postgresql.{token}")),
                None => database = Some(Database::read(said, settings)),
            }
            settings.remove("postgresql");
            OF_DATABASE.iter().for_each(|key| drop(settings.remove(*key)));
        }
        ignored.extend(settings.keys().map(|key| format!("persistence.{key}")));
        Ok((Self { on, ttl_ms, selector, database }, ignored))
    }
}

impl Database {
    fn read(said: &Value, around: &Map<String, Value>) -> Result<Self, String> {
        let Some(said) = said.as_object() else { return Err("postgresql: it is a map of settings".to_owned()) };
        let text = |of: &Map<String, Value>, key: &str| match of.get(key).filter(|v| !v.is_null()) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(format!("{key}: it is a text")),
        };
        let own = |key: &str| text(said, key).map_err(|e| format!("postgresql.{e}"));
        let required = |key: &str| match own(key)? {
            empty if empty.is_empty() => Err(format!("postgresql.{key} is required")),
            text => Ok(text),
        };
        let flag = |of: &Map<String, Value>, key: &str| match of.get(key).filter(|v| !v.is_null()) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(format!("{key}: it is true or false")),
        };
        let secret = |key: &str| {
            let part = |part: &str| said.get(key).and_then(|of| of[part].as_str()).filter(|text| !text.is_empty());
            match part("name").zip(part("key")) {
                Some((name, key)) => Ok(SecretKey { name: name.to_owned(), key: key.to_owned() }),
                None => Err(format!("postgresql.{key}: it has the `name` of a Secret and a `key` of it")),
            }
        };
        let port = match said.get("port").filter(|v| !v.is_null()) {
            None => 5432,
            Some(port) => match port.as_u64().and_then(|port| u16::try_from(port).ok()) {
                Some(0) => 5432,
                Some(port) => port,
                None => return Err("postgresql.port: it is a number up to 65535".to_owned()),
            },
        };
        let offload_table = match own("tableName")? {
            empty if empty.is_empty() => "argo_workflows".to_owned(),
            // It becomes a part of a statement.
            name if is_identifier(&name) => name,
            name => return Err(format!("postgresql.tableName: `{name}` is no name of a table: letters, digits and _")),
        };
        let ssl = match (flag(said, "ssl").map_err(|e| format!("postgresql.{e}"))?, own("sslMode")?.as_str()) {
            (false, _) | (true, "disable") => SslMode::Disable,
            (true, "" | "prefer" | "allow") => SslMode::Prefer,
            (true, "require") => SslMode::Require,
            (true, "verify-ca") => SslMode::VerifyCa,
            (true, "verify-full") => SslMode::VerifyFull,
            (true, other) => {
                let modes = "disable, prefer, require, verify-ca or verify-full";
                return Err(format!("postgresql.sslMode: `{other}` is not {modes}"));
            }
        };
        let nothing = Map::new();
        let pool = match around.get("connectionPool").filter(|v| !v.is_null()) {
            None => &nothing,
            Some(pool) => pool.as_object().ok_or("connectionPool: it is a map of settings")?,
        };
        let count = |key: &str, usual: usize| match pool.get(key).filter(|v| !v.is_null()) {
            None => Ok(usual),
            Some(number) => match number.as_u64().map(|n| usize::try_from(n).unwrap_or(usize::MAX)) {
                // In Go's words: as many as one likes.
                Some(0) => Ok(usual),
                Some(number) => Ok(number.min(CONNECTIONS.1)),
                None => Err(format!("connectionPool.{key}: it is a whole number")),
            },
        };
        let connections_max = count("maxOpenConns", CONNECTIONS.0)?;
        let lifetime_ms = match pool.get("connMaxLifetime").filter(|v| !v.is_null()) {
            None => None,
            Some(text) => duration(text).map_err(|e| format!("connectionPool.connMaxLifetime: {e}"))?,
        };
        let cluster = match text(around, "clusterName")? {
            empty if empty.is_empty() => "default".to_owned(),
            name if name.len() <= 64 => name,
            _ => return Err("clusterName: it has 64 characters at most".to_owned()),
        };
        Ok(Self {
            host: required("host")?,
            port,
            database: required("database")?,
            offload_table,
            user: secret("userNameSecret")?,
            password: secret("passwordSecret")?,
            ssl,
            cluster,
            makes_tables: !flag(around, "skipMigration")?,
            connections_max,
            idle_max: count("maxIdleConns", IDLE)?.min(connections_max),
            lifetime_ms,
        })
    }
}

fn is_identifier(name: &str) -> bool {
    let mut letters = name.chars();
    let begins = letters.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_');
    begins && name.len() <= 59 && letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// A duration as Argo has it, in milliseconds; nothing where it is empty or none.
fn duration(value: &Value) -> Result<Option<i64>, String> {
    let Some(text) = value.as_str() else { return Err("it is a duration such as 30d or 12h".to_owned()) };
    match crate::duration::parse_ms(text).filter(|ms| *ms >= 0) {
        Some(ms) => Ok(Some(ms).filter(|ms| *ms > 0)),
        // Argo has no limit for an empty one.
        None if text.is_empty() => Ok(None),
        None => Err("it is a duration such as 30d or 12h".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn whole() -> Value {
        json!({
            "archive": true, "archiveTTL": "10d", "nodeStatusOffLoad": true, "clusterName": "one", "skipMigration": true,
            "connectionPool": {"maxOpenConns": 100, "maxIdleConns": 0, "connMaxLifetime": "1h"},
            "postgresql": {
                "host": "db", "port": 5433, "database": "argo", "tableName": "offloaded", "ssl": true, "sslMode": "verify-full",
                "userNameSecret": {"name": "s", "key": "u"}, "passwordSecret": {"name": "s", "key": "p"},
            },
        })
    }

    #[test]
    fn a_database_is_read() {
        let (read, ignored) = Archiving::read(whole()).unwrap();
        assert!(ignored.is_empty(), "{ignored:?}");
        let database = read.database.unwrap().unwrap();
        assert_eq!((database.host.as_str(), database.port, database.database.as_str()), ("db", 5433, "argo"));
        assert_eq!((database.cluster.as_str(), database.offload_table.as_str()), ("one", "offloaded"));
        assert_eq!((database.ssl, database.makes_tables), (SslMode::VerifyFull, false));
        let pool = (database.connections_max, database.idle_max, database.lifetime_ms);
        assert_eq!(pool, (32, 2, Some(3_600_000)));
        assert_eq!(database.password, SecretKey { name: "s".to_owned(), key: "p".to_owned() });
        let mut least = whole();
        for key in ["connectionPool", "clusterName", "skipMigration"] {
            least.as_object_mut().unwrap().remove(key);
        }
        for key in ["port", "tableName", "ssl"] {
            least["postgresql"].as_object_mut().unwrap().remove(key);
        }
        let database = Archiving::read(least).unwrap().0.database.unwrap().unwrap();
        assert_eq!((database.port, database.cluster.as_str()), (5432, "default"));
        // What `sslMode` says counts with `ssl` only.
        assert_eq!((database.ssl, database.makes_tables), (SslMode::Disable, true));
        assert_eq!((database.connections_max, database.offload_table.as_str()), (4, "argo_workflows"));
    }

    #[test]
    fn a_fault_is_named_and_leaves_the_rest() {
        for (pointer, value, word) in [
            ("/postgresql", json!("x"), "postgresql: it is a map"),
            ("/postgresql/host", json!(""), "postgresql.host is required"),
            ("/postgresql/database", json!(null), "postgresql.database is required"),
            ("/postgresql/port", json!(70000), "postgresql.port"),
            ("/postgresql/port", json!("5432"), "postgresql.port"),
            ("/postgresql/sslMode", json!("sometimes"), "`sometimes` is not disable"),
            ("/postgresql/ssl", json!("yes"), "postgresql.ssl: it is true or false"),
            ("/postgresql/passwordSecret", json!({"name": "s"}), "postgresql.passwordSecret"),
            ("/postgresql/tableName", json!("x; drop table y"), "postgresql.tableName"),
            ("/connectionPool/maxOpenConns", json!(-1), "connectionPool.maxOpenConns"),
            ("/connectionPool/connMaxLifetime", json!("later"), "connMaxLifetime"),
            ("/skipMigration", json!("no"), "skipMigration"),
        ] {
            let mut said = whole();
            *said.pointer_mut(pointer).unwrap() = value;
            let (read, _) = Archiving::read(said).unwrap();
            assert_eq!((read.on, read.ttl_ms), (Some(true), Some(864_000_000)));
            let fault = read.database.unwrap().unwrap_err();
            assert!(fault.contains(word), "{pointer}: {fault}");
        }
    }

    #[test]
    fn what_has_no_effect_is_told() {
        let mut said = whole();
        said["mysql"] = json!({"host": "db"});
        said["dbReconnectConfig"] = json!({});
        assert_eq!(Archiving::read(said).unwrap().1, ["persistence.dbReconnectConfig", "persistence.mysql"]);
        let mut said = whole();
        said["postgresql"]["azureToken"] = json!({"enabled": true});
        let (read, ignored) = Archiving::read(said).unwrap();
        assert_eq!((read.database, ignored), (None, vec!["persistence.postgresql.azureToken".to_owned()]));
        let (_, ignored) = Archiving::read(json!({"mysql": {}, "connectionPool": {}})).unwrap();
        assert_eq!(ignored, ["persistence.connectionPool", "persistence.mysql"]);
    }
}
