# What is sourced by scripts that put programs under load, twice each, the second time with more of the same: what the
# difference takes is what requests take, without the start of whoever makes them. Marks are for the plugin that counts
# (tests/bench/crossings). For each stretch one line: LOAD, a name, how many requests.
export LC_ALL=C

# stretch NAME COMMAND…: between marks; the command says how many requests it has made.
stretch() {
    local name=$1 count
    shift
    /ops mark
    count=$("$@") || exit 1
    /ops mark
    echo "LOAD $name $count"
}
