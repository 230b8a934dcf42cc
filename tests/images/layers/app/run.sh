#!/bin/sh
# The entrypoint of the image `layers`: is the file system what the layers say, and is this run as the image says?
bad=0
ok() { if [ "$2" = "$3" ]; then echo "CHECK $1 ok"; else echo "CHECK $1 FAIL: got '$2', want '$3'"; bad=1; fi; }
ok image-files "$(find /srv/app -printf '%P ' | tr ' ' '\n' | sort | tr '\n' ' ' | sed 's/^ *//')" "conf conf/new link run.sh same top "
ok image-content "$(cat conf/new top link)" "new
over
over"
ok image-hard-link "$(stat -c %h,%a,%u:%g top) $(cat same)" "2,2755,7:8 over"
ok image-user "$(id -un):$(id -gn) $(id -G)" "daemon:daemon 1"
ok image-workdir "$(pwd)" /srv/app
ok image-env "$GREETING|$PATH" "${WANT_GREETING:-from the image}|/usr/sbin:/usr/bin:/sbin:/bin:/srv"
ok image-arguments "$*" "${WANT_ARGUMENTS:-first second}"
ok image-attribute "$(getfattr --only-values -n security.x-image top 2>&1)" kept
ok image-whiteout "$(ls /etc/issue 2>&1 | grep -c 'No such file')" 1
[ $bad = 0 ] && echo VERDICT SUCCESS
exit $bad
