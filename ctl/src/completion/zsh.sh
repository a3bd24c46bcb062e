#compdef hctl
function _hctl() {
    local lines=("${(@f)$(_CLAP_IFS=$'\n' _CLAP_COMPLETE_INDEX=$((CURRENT - 1)) VARIABLE=zsh \
        COMPLETER -- "${(Q)words[@]}" 2> /dev/null)}")
    local line value whole=() open=()
    for line in $lines; do
        # The word ends before the first colon that is not escaped; the rest says what it is.
        value="${line%%[^\\]:*}"
        [[ $value == $line ]] || value="${line[1,$#value + 1]}"
        # No space follows a word that goes on.
        if [[ $value == *[=/] ]]; then open+=("$line"); else whole+=("$line"); fi
    done
    local result=1
    (( $#open )) && _describe -V 'values' open -S '' && result=0
    (( $#whole )) && _describe -V 'values' whole && result=0
    return result
}
compdef _hctl hctl
