//! The table of access tokens: in memory for each request, in the store for good.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::domain::{
    AccessRole, AccessToken, Digest, PrincipalName, TokenLimits, TokenName, UnixMillis,
    check_patterns,
};
use crate::store::Store;

use super::audit_log::DISK_PATIENCE;
use super::holder::Holder;
use super::refusal::{TOKENS_MAX, TokenRefusal};
use super::secret::TokenSecret;

/// The access tokens. Clones share them.
#[derive(Clone)]
pub struct Tokens(Arc<Inner>);

struct Inner {
    store: Store,
    table: RwLock<HashMap<Digest, Arc<Holder>>>,
    /// Held while a token is made, so that a name is given once.
    making: tokio::sync::Mutex<()>,
}

/// What is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    pub name: TokenName,
    pub role: AccessRole,
    pub approve: bool,
    pub sessions: Vec<String>,
    pub expires_at: Option<UnixMillis>,
    pub limits: TokenLimits,
}

impl Tokens {
    /// Reads the tokens of the store. If they cannot be read, none is accepted: who has the token that
    /// the configuration names can make others. Waits for the disk.
    pub fn load(store: Store) -> Self {
        let tokens = store.tokens().unwrap_or_else(|error| {
            tracing::error!(%error, "access tokens cannot be read; none is accepted");
            Vec::new()
        });
        let table = tokens
            .into_iter()
            .map(|(secret, token)| (secret, Arc::new(Holder::of(token))))
            .collect();
        Self(Arc::new(Inner {
            store,
            table: RwLock::new(table),
            making: tokio::sync::Mutex::new(()),
        }))
    }

    /// Returns the holder of the token whose secret has this digest, also if it has expired. How long the
    /// search takes says nothing of the secrets.
    pub fn find(&self, secret: &Digest) -> Option<Arc<Holder>> {
        self.table(|table| table.get(secret).cloned())
    }

    /// Returns all tokens by name.
    pub fn list(&self) -> Vec<AccessToken> {
        let mut tokens: Vec<_> = self.table(|table| {
            table
                .values()
                .filter_map(|it| it.token().cloned())
                .collect()
        });
        tokens.sort_by(|a, b| a.name.cmp(&b.name));
        tokens
    }

    pub fn is_empty(&self) -> bool {
        self.table(HashMap::is_empty)
    }

    /// Makes a token, which is synced to disk when this returns. Goes on if the caller leaves.
    pub async fn create(
        &self,
        new: NewToken,
        by: &PrincipalName,
    ) -> Result<(AccessToken, TokenSecret), TokenRefusal> {
        check_patterns(&new.sessions)?;
        let now = UnixMillis::now();
        if let Some(at) = new.expires_at
            && at <= now
        {
            return Err(TokenRefusal::Past { at, now });
        }
        let token = AccessToken {
            name: new.name,
            role: new.role,
            approve: new.approve,
            sessions: new.sessions,
            created_at: now,
            created_by: by.to_string(),
            expires_at: new.expires_at,
            limits: new.limits,
        };
        let secret = TokenSecret::draw();
        let digest = Digest::of(secret.expose().as_bytes());
        let (tokens, made) = (self.clone(), token.clone());
        let put = tokio::spawn(async move { tokens.put(digest, made).await });
        put.await??;
        Ok((token, secret))
    }

    async fn put(&self, digest: Digest, token: AccessToken) -> Result<(), TokenRefusal> {
        let _making = self.0.making.lock().await;
        let (is_full, is_taken) = self.table(|table| {
            let mut names = table.values().map(|holder| holder.name().as_str());
            (
                table.len() >= TOKENS_MAX,
                names.any(|name| name == token.name.as_str()),
            )
        });
        if is_taken {
            return Err(TokenRefusal::Taken(token.name));
        }
        if is_full {
            return Err(TokenRefusal::TooMany);
        }
        self.0.store.put_token(&digest, &token).await?;
        let holder = Arc::new(Holder::of(token));
        self.change(|table| table.insert(digest, holder));
        Ok(())
    }

    /// Revokes a token: nobody is let in with it any more, and its event streams end, whatever the disk
    /// does. That is synced when this returns well; else it is tried again until it is, or until this
    /// worker ends.
    pub async fn revoke(&self, name: &str) -> Result<AccessToken, TokenRefusal> {
        // A write that failed may have left another one of the name.
        let revoked: Vec<(Digest, Arc<Holder>)> = self.change(|table| {
            let is_meant = |_: &Digest, holder: &mut Arc<Holder>| holder.name().as_str() == name;
            table.extract_if(is_meant).collect()
        });
        for (_, holder) in &revoked {
            holder.revoke();
        }
        let token = revoked
            .iter()
            .find_map(|(_, holder)| holder.token().cloned());
        let token = token.ok_or_else(|| TokenRefusal::Unknown(name.to_owned()))?;
        let store = self.0.store.clone();
        let deleted = tokio::spawn(async move {
            for (digest, _) in revoked {
                store.delete_token(&digest).await;
            }
        });
        match tokio::time::timeout(DISK_PATIENCE, deleted).await {
            Ok(done) => Ok(done.map(|()| token)?),
            Err(_) => Err(TokenRefusal::RevokedHere(token.name)),
        }
    }

    fn table<T>(&self, read: impl FnOnce(&HashMap<Digest, Arc<Holder>>) -> T) -> T {
        // Ignores poisoning: each change is one insertion or removal.
        read(&self.0.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, change: impl FnOnce(&mut HashMap<Digest, Arc<Holder>>) -> T) -> T {
        change(&mut self.0.table.write().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use std::slice;
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;
    use crate::store::StoreOptions;

    fn new(name: &str) -> NewToken {
        NewToken {
            name: TokenName::new(name).unwrap(),
            role: AccessRole::Client,
            approve: false,
            sessions: vec!["team/*".to_owned()],
            expires_at: None,
            limits: TokenLimits::default(),
        }
    }

    fn open(folder: &std::path::Path) -> Store {
        Store::open(folder, StoreOptions::default()).unwrap()
    }

    fn find(tokens: &Tokens, secret: &str) -> Option<Arc<Holder>> {
        tokens.find(&Digest::of(secret.as_bytes()))
    }

    /// Returns the tokens of a new store that can hold some, in its folder.
    fn stage() -> (TempDir, Store, Tokens) {
        let home = tempfile::tempdir().unwrap();
        let store = open(home.path());
        store.raise_format().unwrap();
        let tokens = Tokens::load(store.clone());
        (home, store, tokens)
    }

    #[tokio::test]
    async fn a_token_outlives_the_worker_and_not_its_revocation() {
        let (home, store, tokens) = stage();
        let by = PrincipalName::Configured;
        let (made, secret) = tokens.create(new("ci"), &by).await.unwrap();
        assert_eq!(made.created_by, "config");
        assert_eq!(
            tokens.create(new("ci"), &by).await.unwrap_err(),
            TokenRefusal::Taken(made.name.clone())
        );
        store.close();

        let store = open(home.path());
        let tokens = Tokens::load(store.clone());
        assert_eq!(tokens.list(), slice::from_ref(&made));
        let holder = find(&tokens, secret.expose()).unwrap();
        assert_eq!(holder.principal, made.principal());
        assert!(find(&tokens, &secret.expose()[1..]).is_none());
        let ended = holder.ended();
        tokio::pin!(ended);
        assert!(futures::poll!(&mut ended).is_pending());
        tokens.revoke("ci").await.unwrap();
        ended.await;
        assert!(find(&tokens, secret.expose()).is_none());
        let refusal = tokens.revoke("ci").await.unwrap_err();
        assert!(refusal.to_string().contains("`ci`"), "{refusal}");
        store.close();
        let store = open(home.path());
        assert!(Tokens::load(store.clone()).is_empty());
        store.close();
    }

    #[tokio::test]
    async fn a_revocation_is_of_all_tokens_of_the_name() {
        let (_home, store, tokens) = stage();
        let by = PrincipalName::Configured;
        let (made, secret) = tokens.create(new("ci"), &by).await.unwrap();
        // What a write leaves that has failed for whoever asked for it.
        store.put_token(&Digest::of(b"other"), &made).await.unwrap();
        let tokens = Tokens::load(store.clone());
        assert_eq!(tokens.list().len(), 2);
        tokens.revoke("ci").await.unwrap();
        for secret in [secret.expose(), "other"] {
            assert!(find(&tokens, secret).is_none());
        }
        assert!(Tokens::load(store.clone()).is_empty());
        store.close();
    }

    #[tokio::test]
    async fn a_token_is_revoked_also_where_the_store_cannot_write() {
        let (_home, store, tokens) = stage();
        let made = tokens.create(new("ci"), &PrincipalName::Configured).await;
        let (_, secret) = made.unwrap();
        let holder = find(&tokens, secret.expose()).unwrap();
        store.close();
        // Closed for good: the caller learns it from the log.
        let _ = tokens.revoke("ci").await;
        holder.ended().await;
        assert!(find(&tokens, secret.expose()).is_none());
    }

    #[tokio::test]
    async fn nothing_of_a_secret_is_in_the_data_folder() {
        let (home, store, tokens) = stage();
        let made = tokens.create(new("ci"), &PrincipalName::Anybody).await;
        let (_, secret) = made.unwrap();
        store.flush().unwrap();
        store.close();
        let wanted = &secret.expose().as_bytes()["abide_".len()..];
        for entry in std::fs::read_dir(home.path().join("db")).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            assert!(memchr::memmem::find(&bytes, wanted).is_none());
        }
    }

    #[tokio::test]
    async fn a_token_ends_when_it_expires() {
        let (_home, store, tokens) = stage();
        let now = UnixMillis::now();
        let past = NewToken {
            expires_at: Some(now),
            ..new("past")
        };
        let refused = tokens.create(past, &PrincipalName::Anybody).await;
        assert!(
            matches!(refused, Err(TokenRefusal::Past { .. })),
            "{refused:?}"
        );
        let short = NewToken {
            expires_at: Some(now.later(Duration::from_secs(3600))),
            ..new("short")
        };
        let made = tokens.create(short, &PrincipalName::Anybody).await;
        let (token, secret) = made.unwrap();
        let holder = find(&tokens, secret.expose()).unwrap();
        assert_eq!(holder.expired_at(now), None);
        assert_eq!(
            holder.expired_at(now.later(Duration::from_secs(3600))),
            token.expires_at
        );
        store.close();
    }

    #[tokio::test]
    async fn before_probation_is_over_none_is_made() {
        let home = tempfile::tempdir().unwrap();
        let store = open(home.path());
        let tokens = Tokens::load(store.clone());
        let refused = tokens.create(new("ci"), &PrincipalName::Anybody).await;
        let refusal = refused.unwrap_err();
        assert!(refusal.to_string().contains("probation"), "{refusal}");
        assert!(tokens.is_empty());
        store.close();
    }
}
