"""The scanner finds the commands of a shell script, wherever they stand, and takes what the shell takes."""

from pathlib import Path

import pytest

from livebuilder.assets import asset
from livebuilder.image.shell import ShellSyntaxError, is_shell_script, parse_script
from livebuilder.process import run

# A script, and the external commands in it.
CASES: dict[str, tuple[str, str]] = {
    "nothing": ("", ""),
    "comments": ("# mount it\necho a#b # mount\n", ""),
    "builtins": ("cd /; [ -e x ] && echo y; printf %s z; kill 1", ""),
    "separators": ("mount a; sync & losetup b\numount c", "mount sync losetup umount"),
    "and, or, pipes": ("mount a && sync || losetup | grep x", "mount sync losetup grep"),
    "quotes": ("'mount' a; \"sync\" ; lo\\setup; echo 'umount; rm' \"; rm\"", "mount sync losetup"),
    "line continuation": ("mo\\\nunt a \\\n  sync\n", "mount"),
    "assignments": ("A=1 B='x y' mount; C=$(sync); D=rm", "mount sync"),
    "an argument like an assignment": ("mount a=b", "mount"),
    "redirections": ("mount >log 2>&1 <in; >only; 2>/dev/null sync; echo a >&2 rm; ls 3<>x >|y", "mount sync ls"),
    "if": ("if ! mount a; then sync; elif losetup; then rm; else ls; fi", "mount sync losetup rm ls"),
    "while and until": ("while mount; do sync; done; until ls; do rm; done <file", "mount sync ls rm"),
    "for": ("for mount in sync $(ls); do rm; done\nfor a\ndo cat; done\nfor b; do tac; done", "ls rm cat tac"),
    "keywords as arguments": ("echo if then fi done esac case { }; ls for in do", "ls"),
    "case": ("case $(ls) in mount) sync ;; (rm | cat) ;; *) losetup; esac; tac", "ls sync losetup tac"),
    "case in a case": ("case x in a) case y in b) ls ;; esac ;; c) rm ;; esac", "ls rm"),
    "case in a substitution": ("a=$(case x in b) ls ;; esac); rm", "ls rm"),
    "groups": ("{ mount; sync; } | (losetup; (rm))>x", "mount sync losetup rm"),
    "substitutions": ("a=$(ls | grep b) `rm`; echo \"$(cat \"$(tac x)\")\" \"`head`\"", "ls grep rm cat tac head"),
    "backquotes in backquotes": ("a=`ls \\`rm\\``", "ls rm"),
    "arithmetic": ("a=$((1 + (2 * $(cat n)))); [ $((a << 2)) = 3 ] && ls", "cat ls"),
    "parameters": ("echo ${a:-$(ls)} \"${b:-it's}\" \"${c%'}'}\" ${#d} $# $? ${e##*/}; rm", "ls rm"),
    "dynamic commands": ("$a mount; \"$b\"x; ${c:-ls} d; fsck.$type e; /bin/$f; $(rm)", "rm"),
    "functions": ("mnt() { mount; sync; }\nmnt a; x () ( ls )\nx; y() if ls; then cat; fi", "mount sync ls cat"),
    "a function over lines": ("f()\n{\n\tls\n}\nf", "ls"),
    "here-documents": ("cat <<A - <<'B'\nmount $(ls) `rm`\nA\n$(sync)\nB\ntac", "cat ls rm tac"),
    "here-document with tabs": ("cat <<-A\n\tmount\n\tA\nls", "cat ls"),
    "here-document in a substitution": ("a=$(cat <<E\nmount )\nE\n); ls", "cat ls"),
    "an unended here-document line": ("cat <<E\nx\nE", "cat"),
    "exec": ("exec /sbin/init; exec 3>&1; exec switch_root /new /sbin/other", "/sbin/init switch_root /sbin/other"),
    "exec needs a program": ("exec true", "true"),
    "command": ("command mount; command -v losetup; command -p ls; command echo", "mount ls"),
    "wrappers": (
        "timeout -s KILL 5 mount; env -u A B=c sync; nice -n 5 ls; setsid -c rm; chroot \"$N\" e2fsck -p; time cat",
        "timeout mount env sync nice ls setsid rm chroot e2fsck time cat",
    ),
    "xargs and find": ("find . -exec ls {} ';' | xargs -n 1 -r rm -f", "find ls xargs rm"),
    "busybox": ("/bin/busybox mount; $BB sync; \"$BUSYBOX\" ls; ${RUN:+\"$RUN\"} rm", "/bin/busybox mount sync ls rm"),
    "sh -c and trap": (
        "sh -c 'mount; sync'; trap 'ls $x' EXIT; trap - INT; trap \"rm \\\"$y\\\"\" TERM",
        "sh mount sync ls rm",
    ),
    "below ROOT": ("\"$ROOT/lib/x\" a; \"${ROOT}\"/sbin/y; $ROOT/bin/$z", "/lib/x /sbin/y"),
    "a function that runs its arguments": (
        "run() { ${RUN:+\"$RUN\"} \"$@\"; }\nrun mount a; run run sync; run echo; run mine\nmine() { :; }",
        "mount sync",
    ),
    "one that takes words off first": (
        "step() {\n\techo \"$1\"\n\tshift\n\t\"$@\"\n}\nstep mount ls -l\nhush() { shift 2; \"$@\" >x; }\nhush 1 2 rm",
        "ls rm",
    ),
    "one that changes the root": (
        "run() { \"$@\"; }\ninside() { run chroot /new \"$@\"; }\ninside e2fsck",
        "chroot e2fsck",
    ),
    "wrappers nest": ("setsid cttyhack nice timeout 5 env A=b ls", "setsid cttyhack nice timeout env ls"),
}  # fmt: skip

REFUSED = {
    "a quote": "echo 'a",
    "double quotes": 'ls\necho "a',
    "a substitution": "echo $(ls",
    "backquotes": "echo `ls",
    "braces of a parameter": "echo ${a",
    "arithmetic": "echo $((1 + 2)",
    "a group": "{ ls; ",
    "a subshell": "(ls",
    "if": "if ls; then rm",
    "while": "while ls; do rm",
    "case": "case a in b) ls",
    "a here-document": "cat <<E\nx\n$(ls\nE",
    "too many parentheses": "ls)",
    "parentheses in a command": "ls a (b)",
    "a redirection": "ls >",
}


@pytest.mark.parametrize(("script", "expected"), CASES.values(), ids=CASES)
def test_commands(script: str, expected: str) -> None:
    assert {use.name for use in parse_script(script).uses()} == set(expected.split())


@pytest.mark.parametrize("shell", [["dash"], ["busybox", "ash"]], ids=" ".join)
def test_the_shells_take_the_scripts_above(shell: list[str], tmp_path: Path) -> None:
    for name, (script, _expected) in CASES.items():
        path = tmp_path / "script"
        path.write_text(script)
        done = run([*shell, "-n", path], check=False)
        assert (done.returncode, done.stderr) == (0, ""), name


@pytest.mark.parametrize("script", REFUSED.values(), ids=REFUSED)
def test_what_has_no_end_is_refused(script: str, tmp_path: Path) -> None:
    with pytest.raises(ShellSyntaxError, match=r"^my\.sh, line \d+: "):
        parse_script(script, name="my.sh")
    path = tmp_path / "script"
    path.write_text(script)
    assert run(["dash", "-n", path], check=False).returncode != 0


def test_the_line_of_an_error_is_named() -> None:
    with pytest.raises(ShellSyntaxError, match=r"my\.sh, line 3: "):
        parse_script("ls\nls\nls)\nls\n", name="my.sh")


def test_uses_know_their_line_arguments_and_root() -> None:
    script = parse_script('ls\n\nmount -t ext4 "$dev" /mnt\nchroot /new e2fsck -p\n')
    uses = {use.name: use for use in script.uses()}
    assert uses["mount"].line == 3
    assert [word.text for word in uses["mount"].arguments[:2]] == ["-t", "ext4"]
    assert [word.is_dynamic for word in uses["mount"].arguments] == [False, False, True, False]
    assert {name for name, use in uses.items() if use.other_root} == {"e2fsck"}


def test_what_a_script_asks_for_and_reads() -> None:
    script = parse_script(
        'command -v e2fsck >/dev/null && e2fsck; type blkid; which awk; [ -x "$ROOT/usr/sbin/nft" ]; [ -x "$any" ]\n'
        '. "$ROOT/lib/a.sh"; . "$hook"; . /etc/b'
    )
    assert script.asked_for() == {"e2fsck", "blkid", "awk", "nft"}
    assert script.sourced() == {"/lib/a.sh", "/etc/b"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#!/bin/sh\n", True),
        ("#! /bin/busybox ash\n", False),
        ("#!/usr/bin/env sh\n", True),
        ("#!/bin/sh /etc/rc.common\n", True),
        ("# shellcheck shell=sh\nfoo() { :; }\n", True),
        ("#!/usr/bin/awk -f\n", False),
        ("config system\n", False),
    ],
)
def test_what_a_shell_script_is(text: str, expected: bool) -> None:
    assert is_shell_script(text) is expected


def test_every_script_that_travels_with_us_can_be_read() -> None:
    texts = {path: path.read_text() for path in sorted(asset("initramfs").rglob("*")) if path.is_file()}
    scripts = {path: text for path, text in texts.items() if is_shell_script(text)}
    assert len(scripts) > 10
    read = {path: parse_script(text, name=str(path)) for path, text in scripts.items()}
    functions = {function for script in read.values() for function in script.functions}
    runner = parse_script('run() { ${RUN:+"$RUN"} "$@"; }').wrappers()
    found = {use.name for script in read.values() for use in script.uses(functions=functions, wrappers=runner)}
    assert {"mount", "modprobe", "ip", "/sbin/init"} <= found
