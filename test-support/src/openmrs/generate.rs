//! Many patients at once, the same ones for the same seed.

use jiff::{ToSpan, civil::date};

use super::{
    OpenMrs, TELEPHONE,
    edit::Hand,
    idgen,
    ids::{IdSource, mix},
    metadata::{ADMIN, metadata},
    model::{ADDRESS_FIELDS, NAME_FIELDS},
};

const WOMEN: [&str; 16] = [
    "Amina",
    "Beatrice",
    "Christine",
    "Dorcas",
    "Esther",
    "Faith",
    "Grace",
    "Halima",
    "Irene",
    "Joyce",
    "Khadija",
    "Lilian",
    "Mercy",
    "Naomi",
    "Phoebe",
    "Rose",
];
const MEN: [&str; 16] = [
    "Abdi", "Brian", "Charles", "Daniel", "Edwin", "Felix", "George", "Hassan", "Isaac", "John", "Kevin",
    "Lawrence", "Moses", "Nicholas", "Peter", "Samuel",
];
const FAMILIES: [&str; 20] = [
    "Achieng", "Barasa", "Chebet", "Debe", "Ekai", "Fondo", "Gitau", "Hamisi", "Imbuga", "Juma", "Kiprono",
    "Lagat", "Mutua", "Njeri", "Odhiambo", "Otieno", "Ouko", "Salim", "Wanjiku", "Wekesa",
];
const VILLAGES: [&str; 12] = [
    "Ahero",
    "Boya",
    "Chiga",
    "Katito",
    "Kibos",
    "Kolwa",
    "Magina",
    "Miwani",
    "Nyakach",
    "Ombeyi",
    "Pap Onditi",
    "Rabuor",
];
/// Patients registered in one second.
const IN_ONE_SECOND: i64 = 50;

impl OpenMrs {
    /// Adds patients with an OpenMRS ID from the source, a CHT id, a name, an address, most with a phone. Their stamps
    /// lie before now, some fifty to a second.
    pub fn generate(&self, count: u32, seed: u64) {
        let now = self.clock.now_ms();
        let mut state = self.lock();
        let switches = state.switches.clone();
        let mut ids = IdSource::new(mix(seed, u64::MAX));
        let types = metadata();
        let kind = |name| types.named("patientidentifiertype", name).unwrap_or_default();
        let (openmrs_id, cht_id) = (kind("OpenMRS ID"), kind("CHT Record Reference UUID"));
        let telephone = types.index("personattributetype", TELEPHONE).unwrap_or_default();
        for n in 0..i64::from(count) {
            let draw = |what: u64, of: usize| (mix(seed, n as u64 * 16 + what) % of as u64) as usize;
            let made = now - (i64::from(count) - n) / IN_ONE_SECOND * 1000;
            let hand = Hand { by: ADMIN, now: made, switches: &switches };
            let mut patient = hand.new_patient(state.tables.take_pk(), ids.next());
            let woman = draw(0, 2) == 0;
            let mut name = hand.part(ids.next(), true);
            name.set(&NAME_FIELDS, "givenName", Some(if woman { WOMEN } else { MEN }[draw(1, 16)]));
            name.set(&NAME_FIELDS, "middleName", (draw(2, 3) > 0).then(|| FAMILIES[draw(3, FAMILIES.len())]));
            name.set(&NAME_FIELDS, "familyName", Some(FAMILIES[draw(4, FAMILIES.len())]));
            patient.names.push(name);
            let mut address = hand.part(ids.next(), true);
            let village = VILLAGES[draw(5, VILLAGES.len())];
            let fields = [("cityVillage", village), ("countyDistrict", "Kisumu"), ("country", "Kenya")];
            fields.into_iter().for_each(|(field, value)| address.set(&ADDRESS_FIELDS, field, Some(value)));
            patient.addresses.push(address);
            patient.row.gender = Some(if woman { "F" } else { "M" }.into());
            let born = date(1940, 1, 1).saturating_add((draw(6, 31_000) as i64).days());
            patient.row.birthdate = Some(born.at(0, 0, 0, 0));
            patient.row.estimated = draw(7, 5) == 0;
            if draw(8, 5) > 0 {
                let phone = format!("+2547{:08}", draw(9, 100_000_000));
                hand.set_attribute(&mut patient, ids.next(), telephone, &phone);
            }
            let number = idgen::from_sequence(state.tables.sequence, idgen::BASE_30);
            state.tables.sequence += 1;
            hand.add_identifier(&mut patient, ids.next(), openmrs_id, &number, Some(0));
            patient.identifiers[0].preferred = true;
            let contact = ids.next().to_string();
            hand.add_identifier(&mut patient, ids.next(), cht_id, &contact, None);
            state.tables.insert(patient);
        }
    }
}
