//! The kinds of things that REST shows: class, version, alias, and the properties of the default and the full
//! representation; and the tables of metadata that can be asked for.

/// What is common to all things of a kind.
pub struct Kind {
    pub class: &'static str,
    pub version: &'static str,
    pub alias: &'static str,
    pub default: &'static str,
    /// Empty when it is as the default.
    pub full: &'static str,
    /// Whether the default representation links to the full one.
    pub has_full: bool,
}

/// A table of metadata, as REST serves it.
pub struct Table {
    pub name: &'static str,
    pub path: &'static str,
    pub privilege: &'static str,
    pub kind: Kind,
}

const fn table(
    name: &'static str,
    path: &'static str,
    privilege: &'static str,
    class: &'static str,
    version: &'static str,
    default: &'static str,
    full: &'static str,
) -> Table {
    let kind = Kind { class, version, alias: name, default, full, has_full: !full.is_empty() };
    Table { name, path, privilege, kind }
}

const NAMED: &str = "uuid,display,name,retired";
const TYPE: &str = "uuid,display,name,description,format,formatDescription,required,validator,locationBehavior,\
                    uniquenessBehavior,retired";
const TYPE_FULL: &str = "uuid,display,name,description,format,formatDescription,required,validator,locationBehavior,\
                         uniquenessBehavior,retired,auditInfo";
const CONCEPT: &str = "uuid,display,name,datatype:ref,conceptClass:ref,set,version,retired,names:ref,descriptions,\
                       mappings,answers:ref,setMembers:ref,attributes";
const SOURCE: &str = "uuid,name,description,baseCharacterSet,prefix,suffix,firstIdentifierBase,minLength,maxLength,\
                      identifierType,type";
const OPTION: &str = "uuid,identifierType,location,source,manualEntryEnabled,automaticGenerationEnabled";

/// Every table of metadata that can be asked for.
pub static TABLES: [Table; 15] = [
    table(
        "patientidentifiertype",
        "patientidentifiertype",
        "Get Identifier Types",
        "org.openmrs.PatientIdentifierType",
        "2.0",
        TYPE,
        TYPE_FULL,
    ),
    table(
        "personattributetype",
        "personattributetype",
        "Get Person Attribute Types",
        "org.openmrs.PersonAttributeType",
        "1.8",
        "uuid,display,name,format,searchable,retired",
        "uuid,display,name,format,searchable,retired,links",
    ),
    table(
        "location",
        "location",
        "Get Locations",
        "org.openmrs.Location",
        "2.0",
        "uuid,display,name,description,cityVillage,countyDistrict,stateProvince,country,latitude,longitude,retired",
        "uuid,display,name,description,cityVillage,countyDistrict,stateProvince,country,latitude,longitude,retired,links",
    ),
    table(
        "encountertype",
        "encountertype",
        "Get Encounter Types",
        "org.openmrs.EncounterType",
        "1.8",
        NAMED,
        "uuid,display,name,retired,links",
    ),
    table(
        "visittype",
        "visittype",
        "Get Visit Types",
        "org.openmrs.VisitType",
        "1.9",
        NAMED,
        "uuid,display,name,retired,links",
    ),
    table(
        "encounterrole",
        "encounterrole",
        "Get Encounter Roles",
        "org.openmrs.EncounterRole",
        "1.8",
        NAMED,
        "uuid,display,name,retired,links",
    ),
    table(
        "relationshiptype",
        "relationshiptype",
        "Get Relationship Types",
        "org.openmrs.RelationshipType",
        "1.8",
        "uuid,display,aIsToB,bIsToA,retired",
        "uuid,display,aIsToB,bIsToA,retired,links",
    ),
    table(
        "provider",
        "provider",
        "Get Providers",
        "org.openmrs.Provider",
        "2.8",
        "uuid,display,identifier,person:ref,retired",
        "uuid,display,identifier,person,retired",
    ),
    table(
        "concept",
        "concept",
        "Get Concepts",
        "org.openmrs.Concept",
        "2.0",
        CONCEPT,
        "uuid,display,name,datatype,conceptClass,set,version,retired,names,descriptions,mappings,answers,setMembers,attributes,units,lowAbsolute,hiAbsolute",
    ),
    table(
        "identifiersource",
        "idgen/identifiersource",
        "",
        "org.openmrs.module.idgen.IdentifierSource",
        "1.8",
        SOURCE,
        "",
    ),
    table(
        "autogenerationoption",
        "idgen/autogenerationoption",
        "",
        "org.openmrs.module.idgen.AutoGenerationOption",
        "1.8",
        OPTION,
        "",
    ),
    table("systemsetting", "systemsetting", "", "org.openmrs.GlobalProperty", "1.9", "property,value", ""),
    table("module", "module", "", "org.openmrs.module.Module", "1.8", "moduleId,version,started", ""),
    table(
        "conceptdatatype",
        "conceptdatatype",
        "",
        "org.openmrs.ConceptDatatype",
        "1.8",
        "uuid,display,name",
        "",
    ),
    table("conceptclass", "conceptclass", "", "org.openmrs.ConceptClass", "1.8", "uuid,display,name", ""),
];

pub static CONCEPT_NAME: Table = table(
    "name",
    "concept",
    "",
    "org.openmrs.ConceptName",
    "1.9",
    "display,uuid,name,locale,localePreferred,conceptNameType",
    "uuid",
);
pub static PROVIDER_PERSON: Table =
    table("person", "person", "", "org.openmrs.Person", "1.11", "uuid,display", "uuid,display");

pub static PATIENT: Kind = Kind {
    class: "org.openmrs.Patient",
    version: "1.8",
    alias: "patient",
    default: "uuid,display,identifiers:ref,person,voided",
    full: "uuid,display,identifiers,person:full,voided,auditInfo",
    has_full: true,
};
pub static PERSON: Kind = Kind {
    class: "org.openmrs.Person",
    version: "1.11",
    alias: "person",
    default: "uuid,display,gender,age,birthdate,birthdateEstimated,dead,deathDate,causeOfDeath:ref,preferredName:ref,\
              preferredAddress:ref,attributes:ref,voided,birthtime,deathdateEstimated",
    full: "uuid,display,gender,age,birthdate,birthdateEstimated,dead,deathDate,causeOfDeath,preferredName,\
           preferredAddress,names,addresses,attributes,voided,auditInfo,birthtime,deathdateEstimated,causeOfDeathNonCoded",
    has_full: true,
};
pub static NAME: Kind = Kind {
    class: "org.openmrs.PersonName",
    version: "1.8",
    alias: "name",
    default: "display,uuid,givenName,middleName,familyName,familyName2,voided",
    full: "display,uuid,preferred,prefix,givenName,middleName,familyNamePrefix,familyName,familyName2,familyNameSuffix,\
           degree,voided,auditInfo",
    has_full: true,
};
pub static ADDRESS: Kind = Kind {
    class: "org.openmrs.PersonAddress",
    version: "2.0",
    alias: "address",
    default: "display,uuid,preferred,address1,address2,cityVillage,stateProvince,country,postalCode,countyDistrict,\
              address3,address4,address5,address6,startDate,endDate,latitude,longitude,voided,address7,address8,address9,\
              address10,address11,address12,address13,address14,address15",
    full: "display,uuid,preferred,address1,address2,cityVillage,stateProvince,country,postalCode,countyDistrict,\
           address3,address4,address5,address6,startDate,endDate,latitude,longitude,voided,address7,address8,address9,\
           address10,address11,address12,address13,address14,address15,auditInfo",
    has_full: true,
};
pub static ATTRIBUTE: Kind = Kind {
    class: "org.openmrs.PersonAttribute",
    version: "1.8",
    alias: "attribute",
    default: "display,uuid,value,attributeType:ref,voided",
    full: "display,uuid,value,attributeType,voided,auditInfo",
    has_full: true,
};
pub static IDENTIFIER: Kind = Kind {
    class: "org.openmrs.PatientIdentifier",
    version: "1.8",
    alias: "identifier",
    default: "display,uuid,identifier,identifierType:ref,location:ref,preferred,voided",
    full: "display,uuid,identifier,identifierType,location,preferred,voided,auditInfo",
    has_full: true,
};
pub static ENCOUNTER: Kind = Kind {
    class: "org.openmrs.Encounter",
    version: "2.2",
    alias: "encounter",
    default: "uuid,display,encounterDatetime,patient:ref,location:ref,form,encounterType:ref,obs:ref,orders,voided,\
              visit:ref,encounterProviders:ref,diagnoses",
    full: "uuid,display,encounterDatetime,patient:ref,location,form,encounterType,obs,orders,voided,auditInfo,visit,\
           encounterProviders,diagnoses",
    has_full: true,
};
pub static ENCOUNTER_PROVIDER: Kind = Kind {
    class: "org.openmrs.EncounterProvider",
    version: "1.9",
    alias: "encounterprovider",
    default: "uuid,provider:ref,encounterRole:ref,voided",
    full: "uuid,provider,encounterRole,voided",
    has_full: true,
};
pub static OBS: Kind = Kind {
    class: "org.openmrs.Obs",
    version: "2.7",
    alias: "obs",
    default: "uuid,display,concept:ref,person:ref,obsDatetime,accessionNumber,obsGroup:ref,valueCodedName,\
              groupMembers:ref,comment,location:ref,order,encounter:ref,voided,value,valueModifier,formFieldPath,\
              formFieldNamespace,status,interpretation,referenceRange",
    full: "uuid,display,concept:ref,person:ref,obsDatetime,accessionNumber,obsGroup:ref,valueCodedName,groupMembers,\
           comment,location:ref,order,encounter:ref,voided,auditInfo,value,valueModifier,formFieldPath,\
           formFieldNamespace,status,interpretation,referenceRange",
    has_full: true,
};
pub static RANGE: Kind = Kind {
    class: "org.openmrs.ObsReferenceRange",
    version: "2.7",
    alias: "referencerange",
    default: "display,uuid,hiNormal,hiAbsolute,hiCritical,lowNormal,lowAbsolute,lowCritical",
    full: "display,uuid,hiNormal,hiAbsolute,hiCritical,lowNormal,lowAbsolute,lowCritical",
    has_full: true,
};
pub static VISIT: Kind = Kind {
    class: "org.openmrs.Visit",
    version: "1.9",
    alias: "visit",
    default: "uuid,display,patient:ref,visitType:ref,indication,location:ref,startDatetime,stopDatetime,encounters:ref,\
              attributes,voided",
    full: "uuid,display,patient:ref,visitType:ref,indication,location:ref,startDatetime,stopDatetime,encounters,\
           attributes,voided,auditInfo",
    has_full: true,
};
pub static RELATIONSHIP: Kind = Kind {
    class: "org.openmrs.Relationship",
    version: "1.9",
    alias: "relationship",
    default: "uuid,display,personA:ref,relationshipType:ref,personB:ref,voided,startDate,endDate",
    full: "uuid,display,personA,relationshipType,personB,voided,startDate,endDate,auditInfo",
    has_full: true,
};
pub static COHORT: Kind = Kind {
    class: "org.openmrs.Cohort",
    version: "2.1",
    alias: "cohort",
    default: "uuid,display,name,description,voided,size",
    full: "uuid,display,name,description,voided,size,auditInfo",
    has_full: true,
};
pub static MEMBERSHIP: Kind = Kind {
    class: "org.openmrs.CohortMembership",
    version: "1.8",
    alias: "membership",
    default: "uuid,display,startDate,endDate,patientUuid",
    full: "uuid,display,startDate,endDate,patientUuid,voided,auditInfo",
    has_full: true,
};

/// The table of a name that is known to be one.
pub fn known(name: &str) -> &'static Table {
    TABLES.iter().find(|table| table.name == name).unwrap_or(&TABLES[0])
}
