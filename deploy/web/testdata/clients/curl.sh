#!/bin/bash
# curl: -N prints each event as it comes. It does not resume: keep the last id
# and send it.
id=
while true; do
  while IFS= read -r line; do
    case $line in
      "id: "*) id=${line#id: } ;;
      "event: "*) event=${line#event: } ;;
      "data: "*)
        [ "$event" = connected ] && echo connected
        [ "$event" = notification ] && [[ $line =~ \"id\":\ ?([0-9]+) ]] && echo "notification ${BASH_REMATCH[1]}" ;;
    esac
  done < <(curl -sN -H "Authorization: Bearer $2" ${id:+-H "Last-Event-ID: $id"} "$1")
  sleep 1
done
