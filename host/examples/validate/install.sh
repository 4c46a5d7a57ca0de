#!/bin/bash
# A module in shell, on the openssl command line: 0 installed, 1 refused. For test keys alone.
#   --module 'exec:./install.sh vehicle.key {elements} {trust} {store} {at} {session} {emaid}'
set -eEuo pipefail
trap 'echo "$step" >&2; exit 1' ERR # each command is a check
export LC_ALL=C
key=$(realpath "$1") trust=$3 store=$4 at=$5 session=$6 here=$(dirname "$(realpath "$0")")
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
path() { # NAME ROOT: its path, its key and its rights
    openssl x509 -inform DER -in "$trust/$2.der" -out "$work/root"
    openssl verify -x509_strict -attime "$at" -CAfile "$work/root" -untrusted "$1-subs.pem" "$1.pem"
    openssl x509 -in "$1.pem" -noout -pubkey -text -nameopt multiline >"$work/$1"
    grep 'OID: prime256v1' "$work/$1"; grep 'Digital Signature' "$work/$1"
    grep CA:FALSE "$work/$1"; test "$(grep -c BEGIN "$1-subs.pem")" -le 2
} >/dev/null
subject() { sed -n "/ Subject:/,\$s/ *$2 *= //p" "$work/$1"; }
cd "$2"
step='response code'; test "$(cat code)" = OK
step=session; test "$session"; test "$(cat session)" = "$session"
step='CPS path'; path cps V2G; test "$(subject cps domainComponent)" = CPS
step=signature; cmp -s members "$here/members"; sha256sum --check --status references
test "$(cut -c 67- references | sort -u | wc -l)" = 4
openssl dgst -sha256 -verify "$work/cps" -signature signature.der signed-info.exi >/dev/null
step='contract path'; path contract MO; test "$(subject contract domainComponent)" != CPS
step=EMAID; name=$(subject contract commonName); emaid=${name//-/}
[[ $name =~ ^[A-Z]{2}-?[A-Z0-9]{3}-?[A-Z0-9]{9}(-?[A-Z0-9])?$ ]]
test "$(cat emaid)" = "$emaid"; test "${7:-$emaid}" = "$emaid"
step='key transport'; test "$(stat -c %s dh.bin encrypted.bin | xargs)" = '65 48'
{ xxd -r -p <<<3059301306072a8648ce3d020106082a8648ce3d030107034200; cat dh.bin; } >"$work/peer"
openssl pkeyutl -derive -inkey "$key" -peerform DER -peerkey "$work/peer" -out "$work/z"
k=$({ printf '\0\0\0\1'; cat "$work/z"; printf '\1UV'; } | sha256sum | head -c 32)
iv=$(head -c 16 encrypted.bin | xxd -p)
d=$(tail -c 32 encrypted.bin | openssl aes-128-cbc -d -nopad -K "$k" -iv "$iv" | xxd -p -c 32)
step=key; [[ $d < ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551 ]]
xxd -r -p <<<"30310201010420${d}a00a06082a8648ce3d030107" >"$work/d"
sed -n '/BEGIN/,/END/p' "$work/contract" >"$work/public"
openssl pkey -inform DER -in "$work/d" -pubout | cmp -s "$work/public"
mv "$work/d" "$store/$emaid"
