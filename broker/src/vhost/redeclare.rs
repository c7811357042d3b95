//! Declaring again what is there: what the virtual host's rule makes of the differences.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use amq_protocol::types::FieldTable;
use leveret_routing::{ALTERNATE_EXCHANGE, ExchangeOptions};
use leveret_storage::Definition;
use parking_lot::RwLockWriteGuard;
use serde::{Deserialize, Serialize};

use super::exchanges::exchange_record;
use super::queues::{DeclaredQueue, QueueDeclaration};
use super::{Actor, Durable, OperationError, QueueHandle, Resource, Topology, Vhost};
use crate::queue::{self, Difference};

/// Of one difference, so much is logged: values come from clients.
const DIFFERENCE_LOGGED_CHARS_MAX: usize = 200;

/// What becomes of a declaration that differs from what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RedeclareRule {
    /// It is refused with 406, as RabbitMQ does.
    #[default]
    Strict,
    /// It succeeds and changes nothing.
    Warn,
    /// What is there becomes what was asked for, where that is possible; else as `Strict`.
    Adopt,
}

impl RedeclareRule {
    /// All rules by name.
    pub const ALL: [(&str, RedeclareRule); 3] = [
        ("strict", RedeclareRule::Strict),
        ("warn", RedeclareRule::Warn),
        ("adopt", RedeclareRule::Adopt),
    ];

    /// The rule of this name.
    pub fn parse(name: &str) -> Option<RedeclareRule> {
        RedeclareRule::ALL
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, rule)| rule)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            RedeclareRule::Strict => "strict",
            RedeclareRule::Warn => "warn",
            RedeclareRule::Adopt => "adopt",
        }
    }
}

/// What became of a declaration that differs.
#[derive(Clone, Copy)]
enum Outcome {
    Refused,
    Accepted,
    Adopted,
}

impl Vhost {
    /// The rule in force.
    pub fn redeclare_rule(&self) -> RedeclareRule {
        self.about.lock().redeclare_rule.unwrap_or(self.redeclare_default)
    }

    /// `queue.declare` of a queue that is there. Exclusivity goes first, then durability, auto-delete and arguments, as RabbitMQ
    /// orders them.
    pub(super) fn redeclare_queue(
        &self,
        actor: &Actor,
        queue: &Arc<QueueHandle>,
        declaration: &QueueDeclaration<'_>,
    ) -> Result<DeclaredQueue, OperationError> {
        let owner = if declaration.exclusive { actor.connection } else { None };
        if queue.properties.exclusive_owner != owner {
            return Err(OperationError::ResourceLocked(self.queue_resource(&queue.name)));
        }
        let differences = queue_differences(queue, declaration);
        let rule = self.redeclare_rule();
        let refused = match rule {
            RedeclareRule::Strict => differences.first(),
            RedeclareRule::Warn => None,
            RedeclareRule::Adopt => differences.iter().find(|difference| !difference.can_be_altered()),
        };
        let told = || differences.iter().map(|difference| (difference.argument, difference));
        if let Some(refused) = refused {
            self.tell_differences(actor, &self.queue_resource(&queue.name), told(), Outcome::Refused);
            return Err(OperationError::Inequivalent(refused.explain(&queue.name, &self.name)));
        }
        // What is not compared, or not taken, may still be wrong.
        self.parse_arguments(&queue.name, &declaration.arguments)?;
        if differences.is_empty() {
            return Ok(DeclaredQueue::of(queue, None));
        }
        let (durable, outcome) = match rule {
            RedeclareRule::Adopt => (
                self.adopt_arguments(actor, queue, &declaration.arguments)?,
                Outcome::Adopted,
            ),
            _ => (None, Outcome::Accepted),
        };
        self.tell_differences(actor, &self.queue_resource(&queue.name), told(), outcome);
        Ok(DeclaredQueue::of(queue, durable))
    }

    /// Gives a queue those arguments of a declaration that a live queue can have. Others are kept, such as unknown ones.
    fn adopt_arguments(
        &self,
        actor: &Actor,
        queue: &Arc<QueueHandle>,
        received: &FieldTable,
    ) -> Result<Durable, OperationError> {
        self.check_dead_letter_exchange(actor, &queue.name, received)?;
        let topology = self.topology.write();
        if !topology.has(queue) {
            // It was deleted since it was found: as if the deletion had come after this.
            return Ok(None);
        }
        let mut table = queue.arguments().table().inner().clone();
        for argument in queue::altered_arguments() {
            match received.inner().get(argument) {
                Some(value) => table.insert(argument.into(), value.clone()),
                None => table.remove(argument),
            };
        }
        self.replace_arguments(&topology, queue, table.into())
    }

    /// `exchange.declare` of an exchange that is there and differs.
    pub(super) fn redeclare_exchange(
        &self,
        actor: &Actor,
        mut topology: RwLockWriteGuard<'_, Topology>,
        name: &str,
        current: &ExchangeOptions,
        received: &ExchangeOptions,
    ) -> Result<Durable, OperationError> {
        let resource = self.exchange_resource(name);
        let rule = self.redeclare_rule();
        // The predeclared ones are the same everywhere.
        let can_be_altered = |argument: &str| argument == ALTERNATE_EXCHANGE && !name.starts_with("amq.");
        let refused = current.differences(received).find(|difference| match rule {
            RedeclareRule::Strict => true,
            RedeclareRule::Warn => false,
            RedeclareRule::Adopt => !can_be_altered(&difference.argument),
        });
        let outcome = match (&refused, rule) {
            (Some(_), _) => Outcome::Refused,
            (None, RedeclareRule::Adopt) => Outcome::Adopted,
            (None, _) => Outcome::Accepted,
        };
        let mut durable = None;
        if matches!(outcome, Outcome::Adopted) {
            // It is there, and none of those that refuse.
            let _ = topology
                .routing
                .set_alternate_exchange(name, received.alternate_exchange.clone());
            self.invalidate_routes();
            if let Some(exchange) = topology.routing.exchange(name).filter(|it| it.options.durable) {
                let mut writer = self.store.writer();
                writer.put(&Definition::Exchange(exchange_record(
                    &self.name,
                    name,
                    exchange.options,
                )));
                durable = Some(writer.submit());
            }
        }
        drop(topology);
        let differences: Vec<_> = current.differences(received).collect();
        let told = differences.iter().map(|difference| (&*difference.argument, difference));
        self.tell_differences(actor, &resource, told, outcome);
        match refused {
            Some(difference) => Err(OperationError::Inequivalent(
                difference.explanation(&resource.to_string()),
            )),
            None => Ok(durable),
        }
    }

    /// Counts and logs a declaration that differs, with all that differs.
    fn tell_differences<'a, D: fmt::Display>(
        &self,
        actor: &Actor,
        resource: &Resource,
        differences: impl Iterator<Item = (&'a str, D)>,
        outcome: Outcome,
    ) {
        let mut list = String::new();
        for (argument, difference) in differences {
            let separator = if list.is_empty() { "" } else { "; " };
            let text = difference.to_string();
            let end = text
                .char_indices()
                .nth(DIFFERENCE_LOGGED_CHARS_MAX)
                .map_or(text.len(), |(end, _)| end);
            let _ = write!(list, "{separator}{argument}: {}", text.get(..end).unwrap_or_default());
        }
        let user = &actor.user;
        let counters = &self.counters.redeclared_differently;
        match outcome {
            Outcome::Refused => {
                counters.refused.inc();
                tracing::info!(%user, differences = list, "{resource} is declared differently: refused");
            }
            Outcome::Accepted => {
                counters.accepted.inc();
                tracing::warn!(%user, differences = list, "{resource} is declared differently: left as it is");
            }
            Outcome::Adopted => {
                counters.adopted.inc();
                tracing::info!(%user, differences = list, "{resource} is declared differently: altered");
            }
        }
    }
}

fn queue_differences(queue: &QueueHandle, declaration: &QueueDeclaration<'_>) -> Vec<Difference> {
    let arguments = queue.arguments();
    let current = queue::QueueProperties {
        durable: queue.properties.durable,
        auto_delete: queue.properties.auto_delete,
        arguments: arguments.table(),
    };
    let received = queue::QueueProperties {
        durable: declaration.durable && !declaration.exclusive,
        auto_delete: declaration.auto_delete,
        arguments: &declaration.arguments,
    };
    queue::differences(current, received).collect()
}
