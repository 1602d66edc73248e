//! What an engine says of itself and its machine, and what kchaos has there.

use std::collections::BTreeMap;

use bollard::models::SystemInfoCgroupVersionEnum;

use super::mutate::{MADE_FOR_LABEL, PURPOSE_LABEL};
use super::{Engine, READ, Refusal, answer, failed, is_absent};
use crate::error::Result;

/// What an engine reports about itself and its machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// Its version.
    pub version: String,
    /// The newest API version it speaks.
    pub api: String,
    /// Memory of its machine, in bytes.
    pub memory: u64,
    /// Directory on its machine where it keeps images and containers.
    pub data_root: String,
    /// Version of its machine's control groups: 1 or 2.
    pub cgroups: Option<u8>,
    /// Kernel version of its machine.
    pub kernel: String,
}

impl Engine {
    /// Name, cluster and purpose of every container that kchaos made and that still exists.
    ///
    /// # Errors
    /// If the engine does not answer.
    pub async fn made_containers(&self) -> Result<Vec<(String, String, String)>> {
        let made = self.labelled(PURPOSE_LABEL).await?;
        let label = |labels: &BTreeMap<String, String>, key| labels.get(key).cloned().unwrap_or_default();
        Ok(made.into_iter().map(|(_, name, l)| (name, label(&l, MADE_FOR_LABEL), label(&l, PURPOSE_LABEL))).collect())
    }

    /// Whether this image is present; it is not pulled.
    ///
    /// # Errors
    /// If the engine does not answer.
    pub async fn has_image(&self, image: &str) -> Result<bool> {
        match answer(READ, self.docker.inspect_image(image)).await {
            Ok(_) => Ok(true),
            Err(e) if is_absent(&e) => Ok(false),
            Err(e) => Err(failed(&format!("look for image {image}"), &e)),
        }
    }

    /// What the engine reports about itself and its machine.
    ///
    /// # Errors
    /// If the engine does not answer.
    pub async fn info(&self) -> Result<EngineInfo> {
        let ask = |e: Refusal| failed("ask the engine about itself", &e);
        let version = answer(READ, self.docker.version()).await.map_err(ask)?;
        let info = answer(READ, self.docker.info()).await.map_err(ask)?;
        Ok(EngineInfo {
            version: version.version.unwrap_or_default(),
            api: version.api_version.unwrap_or_default(),
            memory: u64::try_from(info.mem_total.unwrap_or(0)).unwrap_or(0),
            data_root: info.docker_root_dir.unwrap_or_default(),
            cgroups: match info.cgroup_version {
                Some(SystemInfoCgroupVersionEnum::_1) => Some(1),
                Some(SystemInfoCgroupVersionEnum::_2) => Some(2),
                _ => None,
            },
            kernel: info.kernel_version.unwrap_or_default(),
        })
    }
}
