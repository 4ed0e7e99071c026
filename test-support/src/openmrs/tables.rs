//! All rows and the indexes over them: by uuid, by identifier, in the order of creation and of the last change.
//!
//! A patient is edited as a draft (a copy) and put back whole; `put` alone decides which stamps move.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::{
    ids::{Id, IdSource},
    metadata::{metadata, text},
    model::{Cohort, Encounter, Obs, Patient, Relationship, Task, UserIx, Visit},
    options::{Stamps, Switches},
};

/// The database.
#[derive(Clone, Serialize, Deserialize)]
pub struct Tables {
    pub patients: Vec<Patient>,
    pub encounters: Vec<Encounter>,
    pub visits: Vec<Visit>,
    pub obs: Vec<Obs>,
    pub relationships: Vec<Relationship>,
    pub cohorts: Vec<Cohort>,
    pub tasks: Vec<Task>,
    /// Next internal number of a patient.
    pub next_pk: u32,
    /// Next number of the identifier source.
    pub sequence: u64,
    pub ids: IdSource,
    #[serde(skip)]
    index: Index,
}

#[derive(Clone, Default)]
struct Index {
    by_uuid: HashMap<Id, u32>,
    by_identifier: HashMap<Box<str>, Vec<u32>>,
    /// Patients that are not voided, in the order of creation.
    live: Vec<u32>,
    /// The same by their stamp, then in the order of creation.
    by_stamp: Vec<(i64, u32)>,
    encounters: HashMap<Id, u32>,
    encounters_of: HashMap<u32, Vec<u32>>,
    obs: HashMap<Id, u32>,
    obs_of: HashMap<Id, Vec<u32>>,
}

/// How many patients are there twice, by two measures, and how many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Not voided.
    pub patients: usize,
    /// Voided.
    pub voided: usize,
    /// Patients beyond the first that hold one identifier of one type.
    pub shared_identifiers: usize,
    /// Patients beyond the first with one name, birth date and gender.
    pub same_person: usize,
    /// Not voided.
    pub encounters: usize,
}

impl Tables {
    /// An empty database. The first patient is number 7, since six users came before it.
    pub fn new(seed: u64) -> Self {
        Self {
            patients: Vec::new(),
            encounters: Vec::new(),
            visits: Vec::new(),
            obs: Vec::new(),
            relationships: Vec::new(),
            cohorts: Vec::new(),
            tasks: Vec::new(),
            next_pk: 7,
            sequence: 810_006,
            ids: IdSource::new(seed),
            index: Index::default(),
        }
    }

    /// Builds the indexes after rows were read from a file.
    pub fn reindex(&mut self) {
        self.index = Index::default();
        for at in 0..self.patients.len() as u32 {
            self.enter(at);
        }
        for at in 0..self.encounters.len() as u32 {
            self.enter_encounter(at);
        }
        for at in 0..self.obs.len() as u32 {
            self.enter_obs(at);
        }
    }

    fn enter(&mut self, at: u32) {
        let patient = &self.patients[at as usize];
        let index = &mut self.index;
        index.by_uuid.insert(patient.uuid.clone(), at);
        for row in &patient.identifiers {
            let holders = index.by_identifier.entry(row.value.to_lowercase().into()).or_default();
            if !holders.contains(&at) {
                holders.push(at);
            }
        }
        if !patient.audit.is_voided() {
            let stamped = (patient.audit.stamp(), at);
            if let Err(place) = index.live.binary_search(&at) {
                index.live.insert(place, at);
            }
            if let Err(place) = index.by_stamp.binary_search(&stamped) {
                index.by_stamp.insert(place, stamped);
            }
        }
    }

    fn leave(&mut self, at: u32) {
        let stamped = (self.patients[at as usize].audit.stamp(), at);
        if let Ok(place) = self.index.live.binary_search(&at) {
            self.index.live.remove(place);
        }
        if let Ok(place) = self.index.by_stamp.binary_search(&stamped) {
            self.index.by_stamp.remove(place);
        }
    }

    /// Where a patient is, voided or not.
    pub fn find(&self, uuid: &str) -> Option<u32> {
        self.index.by_uuid.get(&Id::from(uuid)).copied()
    }

    /// A patient by its place.
    pub fn patient(&self, at: u32) -> &Patient {
        &self.patients[at as usize]
    }

    /// Patients that are not voided, in the order of creation.
    pub fn live(&self) -> &[u32] {
        &self.index.live
    }

    /// The same with their stamps and in the order of these.
    pub fn by_stamp(&self) -> &[(i64, u32)] {
        &self.index.by_stamp
    }

    /// Patients that hold or held an identifier of that value, in either case of letters.
    pub fn holders(&self, value: &str) -> &[u32] {
        self.index.by_identifier.get(&*value.to_lowercase()).map_or(&[], Vec::as_slice)
    }

    /// Whether another patient that is not voided holds the identifier, as far as the check sees it at this time.
    pub fn in_use(&self, kind: u16, value: &str, except: Option<u32>, now: i64, switches: &Switches) -> bool {
        self.holders(value).iter().filter(|at| Some(**at) != except).any(|at| {
            let patient = self.patient(*at);
            !patient.audit.is_voided()
                && patient.live_identifiers().any(|row| {
                    row.kind == kind
                        && row.value.to_lowercase() == value.to_lowercase()
                        && now - row.inserted >= switches.uniqueness_window_ms
                })
        })
    }

    /// Adds a patient.
    pub fn insert(&mut self, mut patient: Patient) -> u32 {
        let at = self.patients.len() as u32;
        patient.shrink();
        self.patients.push(patient);
        self.enter(at);
        at
    }

    /// Takes a number for a patient, whether or not it is stored in the end.
    pub fn take_pk(&mut self) -> u32 {
        self.next_pk += 1;
        self.next_pk - 1
    }

    /// A copy of a patient to edit. Within the window of a lost update its row is the one before the last update.
    pub fn draft(&self, at: u32, now: i64, switches: &Switches) -> Patient {
        let mut draft = self.patient(at).clone();
        if let Some((updated, row)) = draft.before.as_deref()
            && now - updated < switches.lost_update_window_ms
        {
            draft.row = row.clone();
        }
        draft
    }

    /// Puts an edited patient back and moves its stamp as the switches say.
    pub fn put(&mut self, at: u32, mut draft: Patient, by: UserIx, now: i64, switches: &Switches) {
        let old = self.patient(at);
        let row_moved = draft.row != old.row;
        let void_moved = draft.audit.is_voided() != old.audit.is_voided();
        let moves = match switches.stamps {
            Stamps::Real => row_moved || void_moved,
            Stamps::Every => draft != *old,
            Stamps::Never => false,
        };
        if row_moved {
            draft.before = Some(Box::new((now, old.row.clone())));
        }
        self.leave(at);
        if moves {
            draft.audit.change(by, now);
        }
        self.patients[at as usize] = draft;
        self.enter(at);
    }

    /// Adds an encounter.
    pub fn insert_encounter(&mut self, encounter: Encounter) {
        self.encounters.push(encounter);
        self.enter_encounter(self.encounters.len() as u32 - 1);
    }

    fn enter_encounter(&mut self, at: u32) {
        let encounter = &self.encounters[at as usize];
        self.index.encounters.insert(encounter.uuid.clone(), at);
        self.index.encounters_of.entry(encounter.patient).or_default().push(at);
    }

    /// Voids the encounters of a patient with their observations, as the void of the patient does.
    pub fn void_encounters(&mut self, patient: u32, by: UserIx, now: i64, reason: &str) {
        let inside: Vec<Id> = self.encounters_of(patient).map(|row| row.uuid.clone()).collect();
        inside.iter().for_each(|uuid| self.void_encounter(uuid, by, now, reason));
    }

    /// Voids an encounter with its observations.
    pub fn void_encounter(&mut self, uuid: &Id, by: UserIx, now: i64, reason: &str) {
        let obs = self.index.obs_of.get(uuid).cloned().unwrap_or_default();
        obs.into_iter().for_each(|at| self.obs[at as usize].audit.void(by, now, reason));
        if let Some(at) = self.index.encounters.get(uuid) {
            let audit = &mut self.encounters[*at as usize].audit;
            audit.void(by, now, reason);
            audit.change(by, now);
        }
    }

    /// Moves the encounters of one patient to another.
    pub fn move_encounters(&mut self, from: u32, to: u32) {
        for at in self.index.encounters_of.remove(&from).unwrap_or_default() {
            self.encounters[at as usize].patient = to;
            self.index.encounters_of.entry(to).or_default().push(at);
        }
    }

    /// An encounter by uuid, voided or not.
    pub fn encounter(&self, uuid: &str) -> Option<&Encounter> {
        self.index.encounters.get(&Id::from(uuid)).map(|at| &self.encounters[*at as usize])
    }

    /// The same to edit.
    pub fn encounter_mut(&mut self, uuid: &str) -> Option<&mut Encounter> {
        self.index.encounters.get(&Id::from(uuid)).map(|at| &mut self.encounters[*at as usize])
    }

    /// Encounters of a patient that are not voided, in the order of creation.
    pub fn encounters_of(&self, patient: u32) -> impl Iterator<Item = &Encounter> {
        let places = self.index.encounters_of.get(&patient).map_or(&[][..], Vec::as_slice);
        places
            .iter()
            .map(|at| &self.encounters[*at as usize])
            .filter(|encounter| !encounter.audit.is_voided())
    }

    /// Adds an observation.
    pub fn insert_obs(&mut self, obs: Obs) {
        self.obs.push(obs);
        self.enter_obs(self.obs.len() as u32 - 1);
    }

    fn enter_obs(&mut self, at: u32) {
        let obs = &self.obs[at as usize];
        self.index.obs.insert(obs.uuid.clone(), at);
        if let Some(encounter) = &obs.encounter {
            self.index.obs_of.entry(encounter.clone()).or_default().push(at);
        }
    }

    /// An observation by uuid, voided or not.
    pub fn find_obs(&self, uuid: &str) -> Option<&Obs> {
        self.index.obs.get(&Id::from(uuid)).map(|at| &self.obs[*at as usize])
    }

    /// The same to edit.
    pub fn obs_mut(&mut self, uuid: &Id) -> Option<&mut Obs> {
        self.index.obs.get(uuid).map(|at| &mut self.obs[*at as usize])
    }

    /// Observations of an encounter that are not voided, group members among them.
    pub fn obs_of(&self, encounter: &Id) -> impl Iterator<Item = &Obs> {
        let places = self.index.obs_of.get(encounter).map_or(&[][..], Vec::as_slice);
        places.iter().map(|at| &self.obs[*at as usize]).filter(|obs| !obs.audit.is_voided())
    }

    /// Members of a group, in the order of their concepts.
    pub fn members<'a>(&'a self, group: &'a Obs) -> Vec<&'a Obs> {
        let of_encounter = group.encounter.as_ref();
        let mut members: Vec<&Obs> = of_encounter
            .into_iter()
            .flat_map(|encounter| self.obs_of(encounter))
            .filter(|obs| obs.parent.as_ref() == Some(&group.uuid))
            .collect();
        members.sort_by_key(|obs| obs.concept.to_string());
        members
    }

    /// A visit by uuid, voided or not.
    pub fn visit(&self, uuid: &str) -> Option<&Visit> {
        let id = Id::from(uuid);
        self.visits.iter().find(|visit| visit.uuid == id)
    }

    /// What there is, and what is there twice.
    pub fn counts(&self) -> Counts {
        let mut identifiers: HashSet<(u16, String)> = HashSet::new();
        let mut persons: HashSet<(String, String, String)> = HashSet::new();
        let mut counts = Counts { patients: self.live().len(), ..Counts::default() };
        counts.voided = self.patients.len() - counts.patients;
        counts.encounters = self.encounters.iter().filter(|row| !row.audit.is_voided()).count();
        for patient in self.live().iter().map(|at| self.patient(*at)) {
            let own: HashSet<(u16, String)> =
                patient.live_identifiers().map(|row| (row.kind, row.value.to_lowercase())).collect();
            let unique = |kind: u16| {
                text(metadata().at("patientidentifiertype", kind), "uniquenessBehavior") != "NON_UNIQUE"
            };
            let seen = own
                .into_iter()
                .filter(|(kind, _)| unique(*kind))
                .filter(|key| !identifiers.insert(key.clone()));
            counts.shared_identifiers += usize::from(seen.count() > 0);
            let birth = patient.row.birthdate.map(|at| at.date().to_string()).unwrap_or_default();
            let gender = patient.row.gender.as_deref().unwrap_or_default().to_owned();
            counts.same_person +=
                usize::from(!persons.insert((patient.name_text().to_lowercase(), birth, gender)));
        }
        counts
    }
}
