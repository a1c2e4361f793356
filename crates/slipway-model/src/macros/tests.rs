use serde_json::json;

use super::*;

fn context() -> MacroContext {
    MacroContext {
        project_name: "proj".to_owned(),
        entity_name: "team".to_owned(),
        run_id: "r1".to_owned(),
        run_name: None,
        image_uri: Some("img:1".to_owned()),
        author: Some("alice".to_owned()),
    }
}

fn env(name: &str) -> Option<String> {
    match name {
        "MY_VAR" => Some("mine".to_owned()),
        "run_id" | "run_name" => Some("from the environment".to_owned()),
        "NESTED" => Some("${MY_VAR}".to_owned()),
        "HF_TOKEN" | "WANDB_API_KEY" => Some("hush".to_owned()),
        _ => None,
    }
}

#[test]
fn every_string_value_is_expanded_and_nothing_else() {
    let args = json!({
        "a": "${project_name}/${entity_name}/${run_id}", "b": ["${image_uri}", {"c": "by ${author}"}],
        "unknown": "${UNKNOWN_X}", "unset": "${run_name}", "custom": "x${MY_VAR}y", "once": "${NESTED}",
        "num": 3, "${run_id}": "k", "odd": "$ ${ ${} ${a-b} $MY_VAR ${MY_VAR", "double": "$${run_id}",
    });
    assert_eq!(
        expand(&args, &context(), &env, &[]).unwrap(),
        json!({
            "a": "proj/team/r1", "b": ["img:1", {"c": "by alice"}],
            "unknown": "${UNKNOWN_X}", "unset": "${run_name}", "custom": "xminey", "once": "${MY_VAR}",
            "num": 3, "${run_id}": "k", "odd": "$ ${ ${} ${a-b} $MY_VAR ${MY_VAR", "double": "$r1",
        })
    );
}

#[test]
fn secrets_are_refused_unless_allowed() {
    for name in ["HF_TOKEN", "WANDB_API_KEY", "NOT_SET_SECRET"] {
        let args = json!({"env": ["A=1", format!("B=${{{name}}}")]});
        let error = expand(&args, &context(), &env, &[]).unwrap_err();
        assert_eq!((error.name.as_str(), error.path.as_str()), (name, "/env/1"));
        let text = error.to_string();
        assert!(text.contains("`allowed_env`") && !text.contains("hush"), "{text}");
    }
    let allowed = expand(&json!("${HF_TOKEN}"), &context(), &env, &["HF_TOKEN".to_owned()]);
    assert_eq!(allowed, Ok(json!("hush")));
}

#[test]
fn names_of_secrets_are_told_from_others() {
    for name in [
        "WANDB_API_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SESSION_TOKEN",
        "aws_secret_access_key",
        "AZURE_CLIENT_SECRET",
        "AZURE_STORAGE_KEY",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GITHUB_TOKEN",
        "GH_PAT",
        "DB_PASSWORD",
        "PGPASSWORD",
        "MYSQL_PWD",
        "SMTP_PASS",
        "OPENAI_APIKEY",
        "MY_SECRET_FILE",
        "SECRETS",
        "AZURE_STORAGE_CONNECTION_STRING",
        "DATABASE_URL",
        "SENTRY_DSN",
        "TOKEN",
        "KEY",
        "NPM_AUTH_TOKEN",
        "SSH_PRIVATE_KEY_PATH",
        "MYTOKEN",
        "SLIPWAY_ADMIN_API_KEY",
        "NETRC",
        "KUBECONFIG",
        "HTTP_BASIC_AUTH",
    ] {
        assert!(is_secret_name(name), "{name}");
    }
    for name in [
        "HOME",
        "PATH",
        "PWD",
        "OLDPWD",
        "TOKENIZERS_PARALLELISM",
        "KEYBOARD",
        "MONKEY_COUNT",
        "AUTHOR",
        "PASSAGE",
        "CUDA_VISIBLE_DEVICES",
        "WANDB_BASE_URL",
        "AWS_REGION",
        "COMPASS_DIR",
        "PATTERN",
        "_",
        "",
    ] {
        assert!(!is_secret_name(name), "{name}");
    }
}
