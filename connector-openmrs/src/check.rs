//! Is the server as the connector needs it? Reads only, one login, and no second one while the first is refused.
//!
//! What must be mended before a patient can move is a bad finding and stops the connector. What should be mended, while
//! patients move all the same, is a good one whose text begins with `to mend:`.

use std::time::{SystemTime, UNIX_EPOCH};

use connector_core::connector::{Fault, Finding};
use secrecy::ExposeSecret;
use serde_json::Value;

use crate::OpenMrs;
use crate::changes::record;
use crate::client::{Failure, Login};
use crate::fhir::{Bundle, FhirHead};
use crate::normal::Person;

/// Privileges that the Patients flow uses.
const NEEDED: [&str; 14] = [
    "Get Patients",
    "Add Patients",
    "Edit Patients",
    "Get People",
    "Add People",
    "Edit People",
    "Get Patient Identifiers",
    "Add Patient Identifiers",
    "Edit Patient Identifiers",
    "Get Identifier Types",
    "Get Person Attribute Types",
    "Get Locations",
    "Get Encounters",
    "Get Encounter Types",
];
/// FHIR2 reads that ask for one privilege each, to see whether FHIR2 asks at all.
const ASKED: [(&str, &str); 8] = [
    ("Get Allergies", "AllergyIntolerance"),
    ("Get Conditions", "Condition"),
    ("Get Medication Dispense", "MedicationDispense"),
    ("Get Observations", "Observation"),
    ("Get Orders", "ServiceRequest"),
    ("Get Patients", "Patient"),
    ("Get Providers", "Practitioner"),
    ("Get Relationships", "RelatedPerson"),
];
/// What a look at the cause of a death may ask for.
const CONCEPTS: &str = "Get Concepts";
/// Difference of the clocks from which on it is told.
const TOLERANCE: i64 = 60;

/// Whether this is the name of a privilege that a request of this connector may lack.
pub fn is_known_privilege(name: &str) -> bool {
    name == CONCEPTS || NEEDED.contains(&name) || ASKED.iter().any(|(asked, _)| *asked == name)
}

impl OpenMrs {
    /// Everything that can be found out.
    pub(crate) async fn examine(&self) -> Vec<Finding> {
        if self.config.password.secret().expose_secret().contains(':') {
            return vec![Finding::bad(
                "password",
                "holds a colon; OpenMRS cuts it there and can never let this user in: choose another password",
            )];
        }
        let login = match self.client.login().await {
            Ok(login) => login,
            Err(Failure::Halt(reason)) => return vec![Finding::bad("login", reason)],
            Err(Failure::NotSent(reason) | Failure::NoAnswer(reason)) => {
                return vec![Finding::bad("server", reason)];
            }
        };
        *self.types.lock().await = None;
        let mut all = vec![Finding::ok("login", "accepted"), clock(&login)];
        all.push(privileges(&login));
        all.push(self.is_checking(&login).await);
        self.metadata(&mut all).await;
        self.sources(&mut all).await;
        self.reading(&mut all).await;
        all
    }

    /// A server that checks no privilege lets every holder of this password do everything.
    async fn is_checking(&self, login: &Login) -> Finding {
        const WHAT: &str = "privileges checked";
        let held = login.privileges.as_deref();
        let lacking = |name: &str| held.is_some_and(|held| !held.iter().any(|p| p == name));
        for (privilege, resource) in ASKED.into_iter().filter(|(privilege, _)| lacking(privilege)) {
            match self.client.fhir(resource, &[("_count", "1")]).await {
                Err(Failure::Halt(_)) => {
                    return Finding::ok(WHAT, format!("FHIR2 refuses `{resource}` without `{privilege}`"));
                }
                Ok(answer) if answer.status == 200 => {
                    return Finding::ok(
                        WHAT,
                        format!(
                            "to mend: FHIR2 gives `{resource}` although the user lacks `{privilege}`: it checks none; \
                             update fhir2 to 4.1 or later"
                        ),
                    );
                }
                _ => {}
            }
        }
        Finding::ok(
            WHAT,
            "not to be told: the user holds every privilege that could be tried; give it no more than needed",
        )
    }

    async fn metadata(&self, all: &mut Vec<Finding>) {
        let config = &self.config;
        let identifiers = config.identifier_types();
        let attributes = config.attribute_types();
        let locations = config.location.iter().chain(config.locations.values()).map(String::as_str);
        let encounters = config.encounter_types.iter().map(String::as_str);
        self.present("identifier type", "patientidentifiertype", identifiers, all).await;
        self.present("attribute type", "personattributetype", attributes, all).await;
        self.present("location", "location", locations, all).await;
        self.present("encounter type", "encountertype", encounters, all).await;
        self.identifier_types(all).await;
        if let Some(cause) = &config.cause_of_death {
            const WHAT: &str = "cause of death";
            all.push(match self.client.rest(&format!("concept/{cause}"), &[("v", "custom:(uuid)")]).await {
                Ok(answer) if answer.status == 200 => Finding::ok(WHAT, "there"),
                Ok(answer) if answer.status == 404 => {
                    Finding::bad(WHAT, format!("concept {cause} is not on the server"))
                }
                Ok(answer) => Finding::bad(WHAT, format!("asking for it was answered {}", answer.status)),
                Err(failure) => Finding::bad(WHAT, Fault::from(failure).to_string()),
            });
        }
    }

    /// What the identifier types ask for, and whether a new patient brings it.
    async fn identifier_types(&self, all: &mut Vec<Finding>) {
        const WHAT: &str = "identifier type";
        let answer = match self.client.rest("patientidentifiertype", &[("v", "full"), ("limit", "100")]).await
        {
            Ok(answer) if answer.status == 200 => answer.json(),
            Ok(_) | Err(_) => return,
        };
        for kind in answer.get("results").and_then(Value::as_array).into_iter().flatten() {
            let text = |key: &str| kind.get(key).and_then(Value::as_str).unwrap_or_default();
            let uuid = text("uuid");
            let is_required = kind.get("required").and_then(Value::as_bool) == Some(true);
            let asks_location = text("locationBehavior") != "NOT_USED";
            let configured = self.config.identifiers.iter().find(|(_, i)| i.kind == uuid);
            if uuid == self.config.cht_identifier {
                if asks_location {
                    all.push(Finding::bad(
                        WHAT,
                        "the type of the CHT id asks for a location; set it to NOT_USED",
                    ));
                }
            } else if let Some((name, _)) = configured.filter(|(_, i)| asks_location && !i.with_location()) {
                let advice =
                    format!("identifiers.{name} asks for a location; set `located: true`, or it to NOT_USED");
                all.push(Finding::bad(WHAT, advice));
            } else if is_required && configured.is_none() {
                let advice =
                    format!("{uuid} is required of every patient; add it to `identifiers`, with its source");
                all.push(Finding::bad(WHAT, advice));
            }
        }
    }

    async fn present<'a>(
        &self,
        what: &str,
        resource: &str,
        wanted: impl Iterator<Item = &'a str>,
        all: &mut Vec<Finding>,
    ) {
        let wanted: Vec<&str> = wanted.collect();
        if wanted.is_empty() {
            return;
        }
        let there = match self.named(resource).await {
            Ok(there) => there,
            Err(fault) => return all.push(Finding::bad(what, format!("the list cannot be read: {fault}"))),
        };
        let before = all.len();
        for uuid in &wanted {
            if !there.iter().any(|(known, _)| known == uuid) {
                let advice = if *uuid == self.config.cht_identifier {
                    "; add it as \"CHT Record Reference UUID\" without format, location NOT_USED, uniqueness UNIQUE"
                } else {
                    ""
                };
                all.push(Finding::bad(what, format!("{uuid} is not on the server{advice}")));
            }
        }
        if all.len() == before {
            all.push(Finding::ok(what, format!("{} there", wanted.len())));
        }
    }

    /// Asks for no number: each one asked for is gone.
    async fn sources(&self, all: &mut Vec<Finding>) {
        const WHAT: &str = "idgen source";
        let wanted: Vec<_> = self
            .config
            .identifiers
            .iter()
            .filter_map(|(name, i)| Some((name, &i.kind, i.source.as_ref()?)))
            .collect();
        if wanted.is_empty() {
            return;
        }
        let answer = match self.client.rest("idgen/identifiersource", &[("v", "default")]).await {
            Ok(answer) if answer.status == 200 => answer.json(),
            Ok(answer) => {
                return all.push(Finding::bad(
                    WHAT,
                    format!("the list was answered {}; is idgen installed?", answer.status),
                ));
            }
            Err(failure) => return all.push(Finding::bad(WHAT, Fault::from(failure).to_string())),
        };
        let sources = answer.get("results").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let text = |value: &Value, path: &str| value.pointer(path).and_then(Value::as_str).map(str::to_owned);
        for (name, kind, source) in wanted {
            let found = sources.iter().find(|s| text(s, "/uuid").as_ref() == Some(source));
            all.push(match found {
                None => Finding::bad(
                    WHAT,
                    format!("identifiers.{name}.source is not on the server: it serves no number"),
                ),
                Some(s) if text(s, "/identifierType/uuid").as_ref() != Some(kind) => {
                    Finding::bad(WHAT, format!("identifiers.{name}.source gives numbers of another type"))
                }
                Some(_) => Finding::ok(WHAT, format!("serves `{name}`")),
            });
        }
    }

    /// Reads one patient both ways, and looks at the link to the next page.
    async fn reading(&self, all: &mut Vec<Finding>) {
        const WHAT: &str = "reading";
        let answer = match self.client.fhir("Patient", &[("_sort", "-_lastUpdated"), ("_count", "1")]).await {
            Ok(answer) if answer.status == 200 => answer,
            Ok(answer) if answer.status == 400 => {
                return all.push(Finding::ok(
                    WHAT,
                    "the newest patient is unreadable by FHIR2; the pass reports such patients",
                ));
            }
            Ok(answer) => {
                return all.push(Finding::bad(
                    WHAT,
                    format!("FHIR2 answered {}; is fhir2 installed?", answer.status),
                ));
            }
            Err(failure) => return all.push(Finding::bad(WHAT, Fault::from(failure).to_string())),
        };
        let Ok(bundle) = answer.parse::<Bundle>() else {
            return all.push(Finding::bad(WHAT, "FHIR2 gives no page"));
        };
        if let Some(next) = bundle.next() {
            all.push(self.links(next));
        }
        let Some(resource) = bundle.resources().next() else {
            return all.push(Finding::ok(WHAT, "no patient there yet"));
        };
        let head = FhirHead::read(resource);
        let uuid = head.id().unwrap_or_default();
        let both = (self.record_of(resource, bundle.today().as_deref()).await, self.rows(uuid).await);
        all.push(match both {
            (Ok(Some(one)), Ok(Some(rows))) if one == record(&self.name, uuid, &Person::of_rest(&rows, &self.config)) => {
                Finding::ok(WHAT, "FHIR2 and REST read a patient alike")
            }
            (Ok(Some(_)), Ok(Some(_))) => Finding::bad(
                WHAT,
                "FHIR2 and REST read the same patient differently: fhir2 is too old to show person attributes (2.3 or \
                 later is needed), or a type has another name there",
            ),
            (Err(fault), _) | (_, Err(fault)) => Finding::bad(WHAT, fault.to_string()),
            _ => Finding::ok(WHAT, "the newest patient vanished meanwhile"),
        });
    }

    /// Only a note: the connector uses no link's host.
    fn links(&self, next: &str) -> Finding {
        let origin = |address: &str| url::Url::parse(address).ok().map(|u| u.origin());
        if origin(next) == origin(self.client.base()) {
            return Finding::ok("links", "carry the configured address");
        }
        Finding::ok(
            "links",
            "to mend: they carry another host than `url`; none is used here, but set the global property fhir2.uriPrefix, or let the \
             proxy send X-Forwarded-Proto, -Host and -Port",
        )
    }
}

fn privileges(login: &Login) -> Finding {
    const WHAT: &str = "privileges";
    let Some(held) = &login.privileges else {
        return Finding::ok(WHAT, "all; give the user no more than the README names");
    };
    let missing: Vec<&str> = NEEDED.into_iter().filter(|name| !held.iter().any(|h| h == name)).collect();
    if missing.is_empty() {
        Finding::ok(WHAT, "enough")
    } else {
        Finding::bad(
            WHAT,
            format!("missing: {}; a role's change takes effect after a restart only", missing.join(", ")),
        )
    }
}

/// The one place that looks at this machine's clock: the server's is compared with it.
fn clock(login: &Login) -> Finding {
    const WHAT: &str = "clock";
    let own = SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|d| i64::try_from(d.as_secs()).ok());
    let servers = login
        .date
        .as_deref()
        .and_then(|d| jiff::fmt::rfc2822::parse(d).ok())
        .map(|d| d.timestamp().as_second());
    match own.zip(servers).map(|(own, servers)| servers - own) {
        None => Finding::ok(WHAT, "not to be told: the server sends no Date"),
        Some(off) if off.abs() < TOLERANCE => Finding::ok(WHAT, "agrees"),
        Some(off) => {
            let side = if off > 0 { "ahead" } else { "behind" };
            Finding::ok(
                WHAT,
                format!("to mend: the server's is {} s {side} of this machine's; set both by NTP", off.abs()),
            )
        }
    }
}
