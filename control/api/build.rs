//! Compiles podline.v1 without a system protoc, and derives the JSON and YAML forms from the descriptors, so that
//! a new field needs no line here.

use std::error::Error;
use std::path::PathBuf;

use protox::prost_reflect::prost_types::{DescriptorProto, FieldDescriptorProto};
use tonic_prost_build::Builder;

const PROTOS: [&str; 3] = [
    "podline/v1/document.proto",
    "podline/v1/proxy.proto",
    "podline/v1/control.proto",
];
/// The file that people write; only its messages are read back from YAML.
const READABLE: &str = "podline/v1/document.proto";
const LABEL_REPEATED: i32 = 3;
const TYPE_ENUM: i32 = 14;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true);
    compiler.open_files(PROTOS)?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(
        out.join("podline.v1.bin"),
        compiler.encode_file_descriptor_set(),
    )?;

    let files = compiler.file_descriptor_set();
    let mut builder = tonic_prost_build::configure();
    for file in files
        .file
        .iter()
        .filter(|file| file.package() == "podline.v1")
    {
        for message in &file.message_type {
            let path = format!(".{}.{}", file.package(), message.name());
            builder = derive_serde(builder, &path, message, file.name() == READABLE);
        }
    }
    builder.compile_fds(files)?;
    Ok(())
}

/// Gives a message the camelCase form of protobuf's JSON. A oneof is written by hand in form.rs: prost-build would
/// put a field attribute on its variants too.
fn derive_serde(
    mut builder: Builder,
    path: &str,
    message: &DescriptorProto,
    readable: bool,
) -> Builder {
    let is_oneof =
        |field: &&FieldDescriptorProto| field.oneof_index.is_some() && !field.proto3_optional();
    if let Some(index) = message
        .field
        .iter()
        .find(is_oneof)
        .and_then(|field| usize::try_from(field.oneof_index()).ok())
    {
        let oneof = format!("{path}.{}", message.oneof_decl[index].name());
        return builder.type_attribute(
            oneof,
            "#[derive(::serde::Serialize)] #[serde(rename_all = \"camelCase\")]",
        );
    }
    let (derives, settings) = if readable {
        (
            "#[derive(::serde::Serialize, ::serde::Deserialize)]",
            "default, deny_unknown_fields, ",
        )
    } else {
        ("#[derive(::serde::Serialize)]", "")
    };
    builder = builder.message_attribute(path, derives).message_attribute(
        path,
        format!("#[serde({settings}rename_all = \"camelCase\")]"),
    );
    for field in &message.field {
        if let Some(attribute) = field_attribute(field, readable) {
            builder = builder.field_attribute(format!("{path}.{}", field.name()), attribute);
        }
    }
    builder
}

/// Durations are `5s`, times RFC 3339, enums their names; what is absent is left out.
fn field_attribute(field: &FieldDescriptorProto, readable: bool) -> Option<String> {
    let mut settings = Vec::new();
    let optional = field.proto3_optional();
    let repeated = field.label == Some(LABEL_REPEATED);
    let is_enum = field.r#type == Some(TYPE_ENUM);
    let is_message = field.type_name.is_some() && !is_enum;
    if optional || (is_message && !repeated) {
        settings.push("skip_serializing_if = \"Option::is_none\"".to_owned());
    }
    if readable && repeated {
        settings.push("skip_serializing_if = \"Vec::is_empty\"".to_owned());
    }
    let form = match field.type_name() {
        ".google.protobuf.Duration" => Some("duration".to_owned()),
        ".google.protobuf.Timestamp" => Some("timestamp".to_owned()),
        name if is_enum => {
            let kind = if optional {
                "optional_enum"
            } else {
                "plain_enum"
            };
            Some(format!("{kind}::<{}, _>", rust_path(name)))
        }
        _ => None,
    };
    if let Some(form) = form {
        settings.push(format!("serialize_with = \"crate::form::write_{form}\""));
        if readable {
            settings.push(format!("deserialize_with = \"crate::form::read_{form}\""));
        }
    }
    if readable && repeated {
        settings.push("deserialize_with = \"crate::form::read_list\"".to_owned());
    }
    (!settings.is_empty()).then(|| format!("#[serde({})]", settings.join(", ")))
}

/// `.podline.v1.BackendSet.Policy` -> `crate::v1::backend_set::Policy`.
fn rust_path(type_name: &str) -> String {
    let mut parts: Vec<&str> = type_name
        .trim_start_matches(".podline.v1.")
        .split('.')
        .collect();
    let last = parts.pop().unwrap_or_default();
    let modules = parts
        .iter()
        .map(|part| snake_case(part) + "::")
        .collect::<String>();
    format!("crate::v1::{modules}{last}")
}

fn snake_case(name: &str) -> String {
    let mut out = String::new();
    for (i, c) in name.char_indices() {
        if i > 0 && c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}
