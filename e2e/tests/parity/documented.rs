//! Commands as the examples of podman's manual have them, one after the other, in both.

use fcvm_e2e::podman::{FLAGS, Podman};
use fcvm_e2e::{BUSYBOX, Finished, Host};
use std::path::Path;

/// What is compared of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compared {
    /// Code and standard output; ids and times, which differ by nature, as their form.
    Output,
    /// The code: the words are each one's own.
    Code,
}
use Compared::{Code, Output};

/// `IMAGE` stands for the image, `DIR` for a directory of each one's own.
#[rustfmt::skip]
const COMMANDS: &[(Compared, &str)] = &[
    // podman-run(1), with its table of exit codes.
    (Code,   "run --foo IMAGE"),
    (Code,   "run --rm IMAGE /etc"),
    (Code,   "run --rm IMAGE foo"),
    (Output, "run --rm IMAGE sh -c 'exit 3'"),
    (Output, "run --rm --name once --hostname box IMAGE hostname"),
    (Output, "run --rm --env FOO=bar --env BAR=foo IMAGE sh -c 'echo $FOO $BAR'"),
    (Output, "run --rm -i -t IMAGE echo 'at a terminal'"),
    (Output, "run --rm --read-only IMAGE touch /root/x"),
    (Output, "run --rm --entrypoint echo IMAGE hello"),
    (Output, "run --rm --workdir /tmp --user alice IMAGE sh -c 'pwd; id -un'"),
    (Output, "run -d --name web --label tier=front --cidfile DIR/web.cid --stop-timeout 1 --health-cmd 'test -e /tmp/well' --health-interval 1h IMAGE sh -c 'echo first; echo second; echo third; exec sleep 1000'"),
    (Output, "run -d --name db IMAGE sh -c 'echo ready; exec sleep 1000'"),
    (Code,   "run -d --name db IMAGE true"),
    // podman-exec(1).
    (Output, "exec -it web ls /www"),
    (Output, "exec -it -w /tmp web pwd"),
    (Output, "exec --user root web ls /www"),
    (Output, "exec web sh -c 'exit 7'"),
    // podman-ps(1).
    (Output, "ps --format '{{.Names}} {{.Image}} {{.Command}}' --sort names"),
    (Output, "ps -a --filter name=web --format '{{.Names}} {{.Command}}'"),
    (Output, "ps --filter label=tier=front -q"),
    (Output, "ps --filter status=exited -q"),
    // podman-logs(1).
    (Output, "logs --tail 2 web"),
    (Output, "logs -t --since 0 web"),
    (Output, "logs --since 2017-08-07T10:10:09.056611202-04:00 web"),
    (Output, "logs --until 2017-08-07T10:10:09.056611202-04:00 web"),
    (Output, "logs --names web"),
    (Output, "logs nobody"),
    // podman-inspect(1).
    (Output, "inspect --format '{{.State.Status}} {{.Name}} {{.ImageName}}' web"),
    (Output, "inspect --format '{{.Config.Hostname}}' --type container web"),
    (Output, "inspect nobody"),
    (Output, "inspect --format '{{.Config.Env}}' --type image IMAGE"),
    (Output, "inspect --format '{{.Config.Cmd}} {{.Config.StopSignal}} {{.HostConfig.RestartPolicy.Name}}' web"),
    // podman-top(1), podman-port(1), podman-diff(1).
    (Output, "top db comm"),
    (Output, "top nobody"),
    (Output, "port web"),
    (Output, "port nobody"),
    (Output, "exec db sh -c 'echo new > /root/made; rm /www/index.html'"),
    (Code,   "diff db"),
    (Code,   "diff nobody"),
    // podman-cp(1).
    (Output, "cp DIR/web.cid db:/tmp/copied"),
    (Output, "exec db sh -c 'wc -c < /tmp/copied'"),
    (Output, "cp db:/root/made DIR/made"),
    (Code,   "cp db:/no/such/file DIR/none"),
    (Code,   "cp nobody:/root/made DIR/none"),
    // podman-pause(1), podman-unpause(1).
    (Code,   "pause nobody"),
    (Code,   "unpause db"),
    // podman-commit(1).
    (Code,   "commit -q db localhost/made:one"),
    (Output, "run --rm localhost/made:one sh -c 'cat /root/made; ls /www'"),
    (Code,   "commit nobody localhost/made:two"),
    (Code,   "commit -q --pause --squash --format docker --include-volumes -c 'USER alice' db localhost/made:three"),
    (Output, "run --rm localhost/made:three id -un"),
    (Code,   "commit -q --format none db localhost/made:two"),
    // podman-save(1), podman-load(1).
    (Output, "save -q -o DIR/made.tar localhost/made:one"),
    (Output, "save -q -o DIR/made.tar localhost/made:one"),
    (Output, "save -q --format oci-archive -o DIR/made-oci.tar localhost/made:one"),
    (Output, "save -q --format oci-archive -o DIR/made-oci.tar localhost/made:one"),
    (Output, "save -q -m -o DIR/all.tar localhost/made:one localhost/made:three"),
    (Output, "save -q -o DIR/tagged.tar localhost/made:one localhost/made:four"),
    (Output, "save --format oci-dir localhost/made:one"),
    (Output, "save --format none localhost/made:one"),
    (Output, "save nobody"),
    (Code,   "rmi localhost/made:one localhost/made:three"),
    (Output, "load -q -i DIR/made.tar"),
    (Output, "run --rm localhost/made:one cat /root/made"),
    (Output, "load -i DIR/all.tar"),
    (Output, "load -i DIR/tagged.tar"),
    (Output, "load -i DIR/none.tar"),
    (Output, "load -i DIR/web.cid"),
    (Output, "rmi --ignore nobody"),
    (Code,   "rmi nobody"),
    // podman-rename(1).
    (Output, "rename db data"),
    (Output, "ps --format '{{.Names}}' --sort names"),
    (Code,   "rename data web"),
    (Output, "rename data db"),
    // podman-restart(1), podman-start(1).
    (Output, "restart -t 1 web"),
    (Code,   "restart nobody"),
    (Code,   "start web"),
    (Output, "start nobody"),
    (Output, "create --name late IMAGE sh -c 'echo started; echo wrong >&2; exit 6'"),
    (Output, "start --attach late"),
    (Output, "start late"),
    (Output, "wait late"),
    (Code,   "start --attach late web"),
    (Output, "rm late"),
    (Output, "run -a stdin --name in IMAGE sh -c 'echo unseen; exit 2'"),
    (Output, "logs in"),
    (Output, "rm in"),
    (Code,   "container prune --force"),
    // podman-healthcheck-run(1).
    (Code,   "healthcheck run web"),
    (Output, "exec web touch /tmp/well"),
    (Output, "healthcheck run web"),
    (Code,   "healthcheck run db"),
    // podman-kill(1), podman-wait(1), podman-stop(1).
    (Output, "kill --signal TERM nobody"),
    (Output, "kill --signal USR2 db"),
    (Output, "kill db"),
    (Output, "wait db"),
    (Output, "stop db"),
    (Output, "stop --cidfile DIR/web.cid"),
    (Output, "wait web db"),
    (Output, "wait nobody"),
    (Code,   "stop -a"),
    (Output, "ps -q"),
    (Output, "ps -a --format '{{.Names}} {{.ExitCode}}' --sort names"),
    (Output, "logs web"),
    // podman-rm(1).
    (Code,   "rm nobody"),
    (Output, "rm --ignore nobody"),
    (Output, "rm db"),
    (Output, "rm --cidfile DIR/web.cid"),
    (Output, "ps -a -q"),
];

/// Runs every command in both, and says all that differ.
pub(super) fn compare(podman: &Podman) {
    let host = Host::new();
    let mut wrong = Vec::new();
    for (compared, line) in COMMANDS {
        let theirs = podman.podman(words(line, podman.path(), &FLAGS), Vec::new());
        let ours = host.fcvm(words(line, host.path(), &[]));
        let (their_form, our_form) = (form(&theirs.stdout), form(&ours.stdout));
        if theirs.code != ours.code || (*compared == Output && their_form != our_form) {
            let shown = |finished: &Finished, form| format!("{} {form:?} err {:?}", finished.code, finished.stderr);
            wrong.push(format!(
                "{line}\n  podman: {}\n  fcvm:   {}",
                shown(&theirs, their_form),
                shown(&ours, our_form)
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), COMMANDS.len(), wrong.join("\n"));
    host.assert_clean();
}

/// Splits a line into words; `'` is the only quote. What belongs to every container is put behind the verb.
fn words(line: &str, dir: &Path, run: &[&str]) -> Vec<String> {
    let line = line.replace("DIR", &dir.to_string_lossy()).replace("IMAGE", BUSYBOX);
    let quoted = line.split('\'').enumerate();
    let words = quoted.flat_map(|(index, part)| match index % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect(),
        _ => vec![part.to_owned()],
    });
    let mut words: Vec<String> = words.collect();
    if matches!(words[0].as_str(), "run" | "create") {
        words.splice(1..1, run.iter().map(|flag| (*flag).to_owned()));
    }
    words
}

/// Output with ids and times as what they are.
fn form(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output).into_owned();
    let is_id = |word: &str| matches!(word.len(), 12 | 64) && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_time = |word: &str| word.len() > 19 && word.as_bytes()[10] == b'T' && word.starts_with("20");
    let word = |word: &str| match word.trim_end() {
        bare if is_id(bare) => word.replace(bare, "<id>"),
        bare if is_time(bare) => word.replace(bare, "<time>"),
        _ => word.to_owned(),
    };
    text.split_inclusive([' ', '\n']).map(word).collect()
}
