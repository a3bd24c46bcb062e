_hctl_complete() {
    local IFS=$'\013' words=() line="$COMP_LINE" index last part before
    # bash cuts words at = and :, too. hctl takes them whole: what no space sets apart belongs together.
    for ((index = 0; index <= COMP_CWORD; index++)); do
        part="${COMP_WORDS[index]}"
        before="${line%%"$part"*}"
        line="${line#*"$part"}"
        if ((index == COMP_CWORD)) && [[ -n $2 || $part != [=:]* ]]; then
            # Only what stands before the cursor.
            part="$2"
        fi
        last=$((${#words[@]} - 1))
        if ((index > 0)) && [[ -z $before && ($part == [=:]* || ${words[last]} == *[=:]) ]]; then
            words[last]+="$part"
        else
            words+=("$part")
        fi
    done
    last=$((${#words[@]} - 1))
    local word="${words[last]}"
    COMPREPLY=($(_CLAP_IFS="$IFS" _CLAP_COMPLETE_INDEX="$last" VARIABLE=bash \
        COMPLETER -- "${words[@]}" 2> /dev/null))
    # No space follows a word that goes on.
    [[ ${COMPREPLY-} == *[=/:] ]] && compopt -o nospace 2> /dev/null
    # bash replaces the part that it knows.
    before="${word%"$2"}"
    COMPREPLY=("${COMPREPLY[@]#"$before"}")
}
if [[ ${BASH_VERSINFO[0]} -gt 4 || ${BASH_VERSINFO[0]} -eq 4 && ${BASH_VERSINFO[1]} -ge 4 ]]; then
    complete -o bashdefault -o nosort -F _hctl_complete hctl
else
    complete -o bashdefault -F _hctl_complete hctl
fi
