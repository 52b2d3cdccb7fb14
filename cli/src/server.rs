//! Which server is meant, and the client that calls it.

use client::{Client, Server, Token};
use weaver::WeaverId;

use crate::args::Global;
use crate::config::{Config, Context, Dirs, LOCAL, Memory, Remembered};
use crate::dev;
use crate::failure::{Doing, Failure};

/// A server with what this user keeps about it.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) client: Client,
    pub(crate) dirs: Dirs,
    /// Whether it is this machine's own.
    pub(crate) local: bool,
    /// Under which name it is remembered.
    key: String,
}

/// What the flags, the environment and the contexts say, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Local,
    Server(Context),
}

/// Finds the server and makes a client of it; the local one is started when it does not run.
pub(crate) async fn connect(global: &Global) -> Result<Api, Failure> {
    let dirs = Dirs::from_env()?;
    let variable = std::env::var("LOOM_SERVER_URL").ok().filter(|url| !url.is_empty());
    let target = choose(global, variable, &Config::read(&dirs)?)?;
    let (server, local, key) = match target {
        Target::Local => {
            let running = dev::ensure(&dirs).await?;
            (running.server(&dirs)?, true, LOCAL.to_owned())
        }
        Target::Server(context) => {
            let server = server_of(&dirs, &context)?;
            let key = server.url.to_string();
            (server, false, key)
        }
    };
    Ok(Api { client: Client::new(server)?, dirs, local, key })
}

fn choose(global: &Global, variable: Option<String>, config: &Config) -> Result<Target, Failure> {
    if global.local {
        return Ok(Target::Local);
    }
    let known = |url: &String| {
        let same =
            |context: &&Context| matches!(context, Context::Server { url: u, .. } if u == url);
        let unknown = || Context::Server { url: url.clone(), token_file: None };
        Target::Server(config.contexts.values().find(same).cloned().unwrap_or_else(unknown))
    };
    if let Some(url) = global.server_url.as_ref().or(variable.as_ref()) {
        return Ok(known(url));
    }
    match config.current()? {
        Some(Context::Local) => Ok(Target::Local),
        Some(server) => Ok(Target::Server(server.clone())),
        None => Err(Failure::new("no server is known")
            .next("`loom new --local` starts one on this machine; else pass --server-url URL")),
    }
}

fn server_of(dirs: &Dirs, context: &Context) -> Result<Server, Failure> {
    let Context::Server { url, token_file } = context else {
        return Err(Failure::new("this context has no URL"));
    };
    let server = Server::new(url, None).map_err(|error| Failure::usage(error.to_string()))?;
    let token = match (variable_token()?, token_file) {
        (Some(token), _) => Some(token),
        (None, Some(path)) => Some(read_token(path)?),
        // Who names the local daemon by its URL means the local daemon.
        (None, None) => dev::token_at(dirs, &server.url),
    };
    Ok(Server { token, ..server })
}

fn variable_token() -> Result<Option<Token>, Failure> {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(token) = set("LOOM_TOKEN") {
        return Ok(Some(Token::new(&token)));
    }
    set("LOOM_TOKEN_FILE").map(|path| read_token(path.as_ref())).transpose()
}

/// Reads a token from its file.
pub(crate) fn read_token(path: &std::path::Path) -> Result<Token, Failure> {
    let text = std::fs::read_to_string(path);
    Ok(Token::new(&text.doing(format!("cannot read the token in {}", path.display()))?))
}

impl Api {
    /// Returns which weavers were used last.
    pub(crate) fn remembered(&self) -> Remembered {
        Memory::of(&self.dirs, &self.key)
    }

    /// Remembers a weaver as the one used last. It is a convenience: failing to is no failure.
    pub(crate) fn remember(&self, id: &WeaverId) {
        let id = id.to_string();
        let _ = Memory::change(&self.dirs, &self.key, |entry| entry.uses(&id));
    }

    /// Deletes a weaver, and forgets that it was used.
    pub(crate) async fn delete(&self, id: &WeaverId) -> Result<(), client::Error> {
        self.client.delete(id).await?;
        let id = id.to_string();
        let _ = Memory::change(&self.dirs, &self.key, |entry| entry.deletes(&id));
        Ok(())
    }

    /// Returns those of the warnings that were not shown before, and remembers them as shown.
    pub(crate) fn not_yet_said(&self, warnings: &[String]) -> Vec<String> {
        let mut fresh = Vec::new();
        let _ = Memory::change(&self.dirs, &self.key, |entry| {
            let said = entry.said.get_or_insert_default();
            fresh = warnings.iter().filter(|text| !said.contains(text)).cloned().collect();
            said.extend(fresh.iter().cloned());
        });
        fresh
    }

    /// Tells whether warnings of this server have been looked for at all.
    pub(crate) fn has_looked(&self) -> bool {
        Memory::of(&self.dirs, &self.key).said.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Target {
        Target::Server(Context::Server { url: url.into(), token_file: None })
    }

    fn config(current: Option<&str>) -> Config {
        let mut config = Config { current: current.map(str::to_owned), ..Config::default() };
        config.contexts.insert("local".into(), Context::Local);
        let far = Context::Server { url: "https://ctx".into(), token_file: None };
        config.contexts.insert("far".into(), far);
        config
    }

    #[test]
    fn flag_then_environment_then_context() {
        let none = Global::default();
        let flag = Global { server_url: Some("https://flag".into()), local: false };
        let local = Global { server_url: None, local: true };
        let variable = || Some("https://env".to_owned());
        let far = config(Some("far"));
        assert_eq!(choose(&flag, variable(), &far).unwrap(), server("https://flag"));
        assert_eq!(choose(&local, variable(), &far).unwrap(), Target::Local);
        assert_eq!(choose(&none, variable(), &far).unwrap(), server("https://env"));
        assert_eq!(choose(&none, None, &far).unwrap(), server("https://ctx"));
        assert_eq!(choose(&none, None, &config(Some("local"))).unwrap(), Target::Local);
        assert!(choose(&none, None, &config(None)).is_err());
        assert!(choose(&none, None, &config(Some("gone"))).is_err());
    }
}
