# Running one stage of a verb: a line on the terminal, the rest in a log. Sourced by build.sh, which sets `log`.

# attempt <title> <command…>: runs the command, prints `title … seconds`, shows the end of what a failure said, and leaves
# the command's status in `status`. It succeeds itself: bash ignores `set -e` in all that is called below `if` or `||`, so
# a stage whose failure the caller asks about there would run on after its first error.
attempt() {
    local title=$1 start=$SECONDS file=$log/${1// /-}.log
    shift
    printf '%-24s' "$title"
    status=0
    if [ -n "${VERBOSE:-}" ]; then
        echo
        exec 3> >(tee "$file")
    else
        exec 3>"$file"
    fi
    # In a process group of its own, which ends with the stage: a compiler that is left behind would hold the lock that the next
    # build waits for.
    set -m
    (set +m; set -e; "$@") >&3 2>&1 3>&- </dev/null &
    stage_pid=$!
    set +m
    exec 3>&-
    wait $stage_pid || status=$?
    end_stage
    if [ $status -eq 0 ]; then
        echo "ok      $((SECONDS - start)) s"
    else
        echo "FAILED  $((SECONDS - start)) s"
        [ -n "${VERBOSE:-}" ] || tail -n 150 "$file" >&2
        echo "$title failed; all of its output is in $file" >&2
    fi
}

# Ends what is left of the stage that runs. Ctrl-C reaches the script alone, since stages have groups of their own.
stage_pid=
end_stage() {
    [ -z "$stage_pid" ] || kill -- -"$stage_pid" 2>/dev/null || true
    stage_pid=
}
trap 'end_stage; exit 130' INT TERM

# stage <title> <command…>: as `attempt`, for what the rest cannot do without.
stage() {
    attempt "$@"
    if [ $status -ne 0 ]; then exit $status; fi
}

# A temporary folder of this run alone. Browsers that are killed leave their profiles, a hundred megabytes each, and a failed
# test what it wrote: a disk full of that fails the tests of another day.
temporary_folder() {
    TMPDIR=$(mktemp -d)
    export TMPDIR
    trap 'rm -rf "$TMPDIR"' EXIT
}

# The tally of tests: a file that each runner's own summary lines are added to.
tally_start() { : >"$log/tally"; }

# attempt_tests <title> <command…>: as `attempt`, and counts the tests that the runners report. A run without any test is a
# failure: it says nothing about the program, and looks like success.
attempt_tests() {
    attempt "$@"
    # A runner that could not even compile, or died before it counted, is one failure: nothing would say so otherwise.
    awk -v status=$status '
        /^test result: / {
            for (i = 1; i < NF; i++) {
                if ($(i + 1) ~ /^passed/) passed += $i
                if ($(i + 1) ~ /^failed/) failed += $i
            }
        }
        END { if (!failed && (status || !passed)) failed = 1; print passed + 0, failed + 0 }' "$log/${1// /-}.log" >"$log/counted"
    cat "$log/counted" >>"$log/tally"
    if [ $status -eq 0 ] && [ "$(cat "$log/counted")" = "0 1" ]; then
        echo "$1 ran no test; all of its output is in $log/${1// /-}.log" >&2
        status=1
    fi
}

# tally_failure: counts a stage that is no test and failed.
tally_failure() { echo "0 1" >>"$log/tally"; }

# Prints the sum of all runners, alone on a line.
tally_print() {
    awk '{ passed += $1; failed += $2 } END { printf "%d passed, %d failed\n", passed, failed }' "$log/tally"
}
