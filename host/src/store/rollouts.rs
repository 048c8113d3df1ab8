//! Roll-outs of components. They are of the part `control` (see `format`).

use std::collections::BTreeMap;

use crate::domain::Rollout;

use super::{
    Store, StoreError, codec,
    db::{Keyspace, Op},
    format::Part,
    keys,
};

/// The number of roll-outs of a plugin that are kept.
const ROLLOUTS_KEPT: usize = 20;

const WHAT: &str = "a roll-out";

impl Store {
    /// Returns the roll-outs of all plugins, each plugin's oldest first. One that cannot be decoded is left
    /// out: its plugin's component counts as proven then.
    pub fn rollouts(&self) -> Result<BTreeMap<String, Vec<Rollout>>, StoreError> {
        let (first, bound) = keys::all_of_kind(keys::ROLLOUT);
        let mut rollouts: BTreeMap<_, Vec<_>> = BTreeMap::new();
        self.core().read(|db| {
            db.scan(Keyspace::Meta, &first, &bound, |_, value| {
                match codec::decode::<Rollout>(WHAT, value) {
                    Ok(rollout) => rollouts
                        .entry(rollout.plugin.clone())
                        .or_default()
                        .push(rollout),
                    Err(error) => tracing::error!(%error, "a roll-out is left out"),
                }
                Ok(true)
            })
        })?;
        Ok(rollouts)
    }

    /// Writes a roll-out, and replaces an earlier one that began at the same time. It is synced on return.
    /// The plugin's oldest ones beyond [`ROLLOUTS_KEPT`] are deleted. Refused before this version has passed
    /// its probation.
    pub async fn put_rollout(&self, rollout: &Rollout) -> Result<(), StoreError> {
        self.core().format.allow_part(WHAT, Part::Control)?;
        let bytes = codec::encode(WHAT, rollout)?;
        let key = |of: &Rollout| keys::rollout(&of.plugin, of.began_at);
        let mut ops = vec![Op::Put(Keyspace::Meta, key(rollout), bytes)];
        let known = self.rollouts()?.remove(&rollout.plugin).unwrap_or_default();
        let others = known.iter().filter(|it| it.began_at != rollout.began_at);
        let excess = (others.clone().count() + 1).saturating_sub(ROLLOUTS_KEPT);
        ops.extend(
            others
                .take(excess)
                .map(|it| Op::Delete(Keyspace::Meta, key(it))),
        );
        self.write_meta(ops).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Digest, UnixMillis};
    use crate::store::StoreOptions;

    #[tokio::test]
    async fn the_last_ones_of_a_plugin_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        let component = Digest::of(b"c");
        let rollout = |plugin, at| Rollout::counted(plugin, component, UnixMillis(at));
        let refused = store.put_rollout(&rollout("p", 1)).await.unwrap_err();
        assert!(matches!(refused, StoreError::LacksPart { .. }), "{refused}");
        store.raise_format().unwrap();
        for at in 1..=ROLLOUTS_KEPT as u64 + 3 {
            store.put_rollout(&rollout("p", at)).await.unwrap();
        }
        store.put_rollout(&rollout("p2", 1)).await.unwrap();
        store.put_rollout(&rollout("p2", 1)).await.unwrap();
        let kept = store.rollouts().unwrap();
        let began = kept["p"].iter().map(|it| it.began_at.0);
        assert_eq!(began.collect::<Vec<_>>(), (4..=23).collect::<Vec<_>>());
        assert_eq!(kept["p2"], [rollout("p2", 1)]);
    }
}
