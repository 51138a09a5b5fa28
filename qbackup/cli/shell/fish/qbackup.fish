# Usage:
# 1) Copy this to ~/.config/fish/completions/qbackup.fish
# 2) Ensure a binary named qbackup is in your PATH
# See also: https://fishshell.com/docs/current/completions.html#where-to-put-completions


# Parse current commandline:
# - _shtab_qbackup_cmdpath=(sub)command path seen so far
# - _shtab_qbackup_npos=number of positional arguments given after it
# - options are skipped based on _shtab_qbackup_opts_with_value & _shtab_qbackup_commands lists
function _shtab_qbackup_scan
  set -g _shtab_qbackup_cmdpath ''
  set -g _shtab_qbackup_npos 0
  set -l tokens (commandline -opc)
  set -e tokens[1]
  set -l expect_value 0
  for t in $tokens
    if test $expect_value -eq 1
      set expect_value 0
      continue
    end
    switch "$t"
      case '--*=*'
        continue
      case '-*'
        if contains -- $t $_shtab_qbackup_opts_with_value
          set expect_value 1
        end
        continue
      case '*'
        if test $_shtab_qbackup_npos -eq 0
          set -l candidate $t
          if test -n "$_shtab_qbackup_cmdpath"
            set candidate "$_shtab_qbackup_cmdpath $t"
          end
          if contains -- $candidate $_shtab_qbackup_commands
            set -g _shtab_qbackup_cmdpath $candidate
            continue
          end
        end
        set -g _shtab_qbackup_npos (math $_shtab_qbackup_npos + 1)
    end
  end
end

# Condition helper: true if the current (sub)command path equals the given one.
function _shtab_qbackup_using
  _shtab_qbackup_scan
  test "$_shtab_qbackup_cmdpath" = "$argv"
end

set -g _shtab_qbackup_commands info list verify restore cat script ls cp protect kit completion
set -g _shtab_qbackup_opts_with_value --also --backup-id --backup-id-window --compression-filter --dask --hmac-algorithm --jobs --limit --memory --output --partition --passphrase-command --passphrase-file --redundancy --restored --spool --wheels -o -p

complete -c qbackup -e
complete -c qbackup -f

complete -c qbackup -n _shtab_qbackup_using -s h -l help -d 'show this help message and exit'
complete -c qbackup -n _shtab_qbackup_using -l version -d 'show program'"'"'s version number and exit'
complete -c qbackup -n '_shtab_qbackup_using; and test $_shtab_qbackup_npos -eq 0' -a info -d 'Show what kind of backup this is, and the time and space that a restore needs here.'
complete -c qbackup -n '_shtab_qbackup_using info' -s h -l help -d 'show this help message and exit'
complete -c qbackup -n '_shtab_qbackup_using info' -s p -l passphrase-file -xka "(__fish_complete_path (commandline -ct))" -d 'a file with the passphrase, or - for standard input'
complete -c qbackup -n '_shtab_qbackup_using info' -l passphrase-command -x -d 'a program that prints the passphrase'
complete -c qbackup -n '_shtab_qbackup_using info' -l json -d 'print one JSON document on standard output'
complete -c qbackup -n '_shtab_qbackup_using info' -l jobs -x -d 'number of scrypt lanes that are derived side by side (default: one for each core)'
complete -c qbackup -n '_shtab_qbackup_using info' -l memory -x -d 'memory that key derivation may use, e.g. 400M (default: half of RAM)'
complete -c qbackup -n '_shtab_qbackup_using info' -l limit -x -d 'raise a limit that an error names, e.g. decoder_memory=2G; may be repeated'
complete -c qbackup -n '_shtab_qbackup_using info' -l compression-filter -x -d 'decompress with this program, which takes -d, instead of the one that the header names; none: the files are not compressed'
complete -c qbackup -n '_shtab_qbackup_using info' -l hmac-algorithm -x -d 'authenticate the header of formats 2 and 3 with this digest, even a weak one'
complete -c qbackup -n '_shtab_qbackup_using info' -l salvage -d 'go on where the header or the archive is damaged, and report each fault'
complete -c qbackup -n '_shtab_qbackup_using info' -l also -x -d 'another copy of the same backup: what is damaged in one is taken from the others; may be given again'
complete -c qbackup -n '_shtab_qbackup_using info' -l backup-id -x -d 'with --salvage: the id of a backup of format 4 whose header is lost, e.g. 20240917T101112-1234'
complete -c qbackup -n '_shtab_qbackup_using info' -l backup-id-window -x -d 'with --salvage: search for that id among these, SECONDS[,PID-PID][,TIME], e.g. 60,1000-4000: a minute on each side of the time in the file'"'"'s name'
complete -c qbackup -n '_shtab_qbackup_using info' -s q -l quiet -d 'show no progress'
complete -c qbackup -n '_shtab_qbackup_using info' -s v -l verbose -d 'show which libraries do the work'
complete -c qbackup -n '_shtab_qbackup_using info; and test $_shtab_qbackup_npos -eq 0' -ka "(__fish_complete_path (commandline -ct))" -d 'the backup'"'"'s file, or - for standard input'
complete -c qbackup -n '_shtab_qbackup_using; and test $_shtab_qbackup_npos -eq 0' -a list -d 'List the qubes in the backup and their files.'
complete -c qbackup -n '_shtab_qbackup_using list' -s h -l help -d 'show this help message and exit'
complete -c qbackup -n '_shtab_qbackup_using list' -l all -d 'also list qubes that the backup names but does not hold'
complete -c qbackup -n '_shtab_qbackup_using list' -s p -l passphrase-file -xka "(__fish_complete_path (commandline -ct))" -d 'a file with the passphrase, or - for standard input'
complete -c qbackup -n '_shtab_qbackup_using list' -l passphrase-command -x -d 'a program that prints the passphrase'
complete -c qbackup -n '_shtab_qbackup_using list' -l json -d 'print one JSON document on standard output'
complete -c qbackup -n '_shtab_qbackup_using list' -l jobs -x -d 'number of scrypt lanes that are derived side by side (default: one for each core)'
complete -c qbackup -n '_shtab_qbackup_using list' -l memory -x -d 'memory that key derivation may use, e.g. 400M (default: half of RAM)'
complete -c qbackup -n '_shtab_qbackup_using list' -l limit -x -d 'raise a limit that an error names, e.g. decoder_memory=2G; may be repeated'
complete -c qbackup -n '_shtab_qbackup_using list' -l compression-filter -x -d 'decompress with this program, which takes -d, instead of the one that the header names; none: the files are not compressed'
complete -c qbackup -n '_shtab_qbackup_using list' -l hmac-algorithm -x -d 'authenticate the header of formats 2 and 3 with this digest, even a weak one'
complete -c qbackup -n '_shtab_qbackup_using list' -l salvage -d 'go on where the header or the archive is damaged, and report each fault'
complete -c qbackup -n '_shtab_qbackup_using list' -l also -x -d 'another copy of the same backup: what is damaged in one is taken from the others; may be given again'
complete -c qbackup -n '_shtab_qbackup_using list' -l backup-id -x -d 'with --salvage: the id of a backup of format 4 whose header is lost, e.g. 20240917T101112-1234'
complete -c qbackup -n '_shtab_qbackup_using list' -l backup-id-window -x -d 'with --salvage: search for that id among these, SECONDS[,PID-PID][,TIME], e.g. 60,1000-4000: a minute on each side of the time in the file'"'"'s name'
complete -c qbackup -n '_shtab_qbackup_using list' -s q -l quiet -d 'show no progress'
complete -c qbackup -n '_shtab_qbackup_using list' -s v -l verbose -d 'show which libraries do the work'
complete -c qbackup -n '_shtab_qbackup_using list; and test $_shtab_qbackup_npos -eq 0' -ka "(__fish_complete_path (commandline -ct))" -d 'the backup'"'"'s file, or - for standard input'
complete -c qbackup -n '_shtab_qbackup_using; and test $_shtab_qbackup_npos -eq 0' -a verify -d 'Check everything as restore does, but write nothing.'
complete -c qbackup -n '_shtab_qbackup_using verify' -s h -l help -d 'show this help message and exit'
complete -c qbackup -n '_shtab_qbackup_using verify' -l dask -x -d 'derive keys on this Dask cluster too, e.g. tls://HOST:8786'
complete -c qbackup -n '_shtab_qbackup_using verify' -s p -l passphrase-file -xka "(__fish_complete_path (commandline -ct))" -d 'a file with the passphrase, or - for standard input'
complete -c qbackup -n '_shtab_qbackup_using verify' -l passphrase-command -x -d 'a program that prints the passphrase'
complete -c qbackup -n '_shtab_qbackup_using verify' -l json -d 'print one JSON document on standard output'
complete -c qbackup -n '_shtab_qbackup_using verify' -l jobs -x -d 'number of scrypt lanes that are derived side by side (default: one for each core)'
complete -c qbackup -n '_shtab_qbackup_using verify' -l memory -x -d 'memory that key derivation may use, e.g. 400M (default: half of RAM)'
complete -c qbackup -n '_shtab_qbackup_using verify' -l limit -x -d 'raise a limit that an error names, e.g. decoder_memory=2G; may be repeated'
complete -c qbackup -n '_shtab_qbackup_using verify' -l compression-filter -x -d 'decompress with this program, which takes -d, instead of the one that the header names; none: the files are not compressed'
complete -c qbackup -n '_shtab_qbackup_using verify' -l hmac-algorithm -x -d 'authenticate the header of formats 2 and 3 with this digest, even a weak one'
complete -c qbackup -n '_shtab_qbackup_using verify' -l salvage -d 'go on where the header or the archive is damaged, and report each fault'
complete -c qbackup -n '_shtab_qbackup_using verify' -l also -x -d 'another copy of the same backup: what is damaged in one is taken from the others; may be given again'
complete -c qbackup -n '_shtab_qbackup_using verify' -l backup-id -x -d 'with --salvage: the id of a backup of format 4 whose header is lost, e.g. 20240917T101112-1234'
complete -c qbackup -n '_shtab_qbackup_using verify' -l backup-id-window -x -d 'with --salvage: search for that id among these, SECONDS[,PID-PID][,TIME], e.g. 60,1000-4000: a minute on each side of the time in the file'"'"'s name'
complete -c qbackup -n '_shtab_qbackup_using verify' -s q -l quiet -d 'show no progress'
complete -c qbackup -n '_shtab_qbackup_using verify' -s v -l verbose -d 'show which libraries do the work'
complete -c qbackup -n '_shtab_qbackup_using verify; and test $_shtab_qbackup_npos -eq 0' -ka "(__fish_complete_path (commandline -ct))" -d 'the backup'"'"'s file, or - for standard input'
complete -c qbackup -n '_shtab_qbackup_using; and test $_shtab_qbackup_npos -eq 0' -a restore -d 'Write the files of all qubes, or of some.'
complete -c qbackup -n '_shtab_qbackup_using restore' -s h -l help -d 'show this help message and exit'
complete -c qbackup -n '_shtab_qbackup_using restore' -l dask -x -d 'derive keys on this Dask cluster too, e.g. tls://HOST:8786'
complete -c qbackup -n '_shtab_qbackup_using restore' -s o -l output -xka "(__fish_complete_directories)" -d 'the folder to write into'
complete -c qbackup -n '_shtab_qbackup_using restore' -l overwrite -d 'replace files, and whole folders, that are already there and differ'
complete -c qbackup -n '_shtab_qbackup_using restore' -l keep-damaged -d 'keep what could be verified of a damaged file, as NAME.damaged'
complete -c qbackup -n '_shtab_qbackup_using restore' -l unverified -d 'last resort, with --keep-damaged: keep what nothing proves of a damaged file, as NAME.unverified; whoever held the disk may have chosen these bytes (format 4 only)'
complete -c qbackup -n '_shtab_qbackup_using restore' -s p -l passphrase-file -xka "(__fish_complete_path (commandline -ct))" -d 'a file with the passphrase, or - for standard input'
complete -c qbackup -n '_shtab_qbackup_using restore' -l passphrase-command -x -d 'a program that prints the passphrase'
complete -c qbackup -n '_shtab_qbackup_using restore' -l json -d 'print one JSON document on standard output'
complete -c qbackup -n '_shtab_qbackup_using restore' -l jobs -x -d 'number of scrypt lanes that are derived side by side (default: one for each core)'
complete -c qbackup -n '_shtab_qbackup_using restore' -l memory -x -d 'memory that key derivation may use, e.g. 400M (default: half of RAM)'
complete -c qbackup -n '_shtab_qbackup_using restore' -l limit -x -d 'raise a limit that an error names, e.g. decoder_memory=2G; may be repeated'
complete -c qbackup -n '_shtab_qbackup_using restore' -l compression-filter -x -d 'decompress with this program, which takes -d, instead of the one that the header names; none: the files are not compressed'
complete -c qbackup -n '_shtab_qbackup_using restore' -l hmac-algorithm -x -d 'authenticate the header of formats 2 and 3 with this digest, even a weak one'
complete -c qbackup -n '_shtab_qbackup_using restore' -l salvage -d 'go on where the header or the archive is damaged, and report each fault'
complete -c qbackup -n '_shtab_qbackup_using restore' -l also -x -d 'another copy of the same backup: what is damaged in one is taken from the others; may be given again'
complete -c qbackup -n '_shtab_qbackup_using restore' -l backup-id -x -d 'with --salvage: the id of a backup of format 4 whose header is lost, e.g. 20240917T101112-1234'
complete -c qbackup -n '_shtab_qbackup_using restore' -l backup-id-window -x -d 'with --salvage: search for that id among these, SECONDS[,PID-PID][,TIME], e.g. 60,1000-4000: a minute on each side of the time in the file'"'"'s name'
complete -c qbackup -n '_shtab_qbackup_using restore' -s q -l quiet -d 'show no progress'
complete -c qbackup -n '_shtab_qbackup_using restore' -s v -l verbose -d 'show which libraries do the work'
complete -c qbackup -n '_shtab_qbackup_using restore; and test $_shtab_qbackup_npos -eq 0' -ka "(__fish_complete_path (commandline -ct))" -d 'the backup'"'"'s file, or - for standard input'
complete -c qbackup -n '_shtab_qbackup_using; and test $_shtab_qbackup_npos -eq 0' -a cat -d 'Write the content of one file to standard output.'
complete -c qbackup -n '_shtab_qbackup_using cat' -s h -l help -d 'show this help message and exit'
complete -c qbackup -n '_shtab_qbackup_using cat' -l spool -xka "(__fish_complete_directories)" -d 'folder for the temporary, encrypted copy of a large image (default: TMPDIR, else /var/tmp)'
complete -c qbackup -n '_shtab_qbackup_using cat' -l partition -x -d 'show this partition of a disk (default: the one with a system, else the largest with ext4)'
complete -c qbackup -n '_shtab_qbackup_using cat' -s p -l passphrase-file -xka "(__fish_complete_path (commandline -ct))" -d 'a file with the passphrase, or - for standard input'
complete -c qbackup -n '_shtab_qbackup_using cat' -l passphrase-command -x -d 'a program that prints the passphrase'
complete -c qbackup -n '_shtab_qbackup_using cat' -l jobs -x -d 'number of scrypt lanes that are derived side by side (default: one for each core)'
complete -c qbackup -n '_shtab_qbackup_using cat' -l memory -x -d 'memory that key derivation may use, e.g. 400M (default: half of RAM)'
complete -c qbackup -n '_shtab_qbackup_using cat' -l limit -x -d 'raise a limit that an error names, e.g. decoder_memory=2G; may be repeated'
complete -c qbackup -n '_shtab_qbackup_using cat' -l compression-filter -x -d 'decompress with this program, which takes -d, instead of the one that the header names; none: the files are not compressed'
complete -c qbackup -n '_shtab_qbackup_using cat' -l hmac-algorithm -x -d 'authenticate the header of formats 2 and 3 with this digest, even a weak one'
complete -c qbackup -n '_shtab_qbackup_using cat' -l salvage -d 'go on where the header or the archive is damaged, and report each fault'
complete -c qbackup -n '_shtab_qbackup_using cat' -l also -x -d 'another copy of the same backup: what is damaged in one is taken from the others; may be given again'
complete -c qbackup -n '_shtab_qbackup_using cat' -l backup-id -x -d 'with --salvage: the id of a backup of format 4 whose header is lost, e.g. 20240917T101112-1234'
complete -c qbackup -n '_shtab_qbackup_using cat' -l backup-id-window -x -d 'with --salvage: search for that id among these, SECONDS[,PID-PID][,TIME], e.g. 60,1000-4000: a minute on each side of the time in the file'"'"'s name'
complete -c qbackup -n '_shtab_qbackup_using cat' -s q -l quiet -d 'show no progress'
complete -c qbackup -n '_shtab_qbackup_using cat' -s v -l verbose -d 'show which libraries do the work'
complete -c qbackup -n '_shtab_qbackup_using cat; and test $_shtab_qbackup_npos -eq 0' -ka "(__fish_complete_path (commandline -ct))" -d 'the backup'"'"'s file, or - for standard input; or IMAGE:/path in an image that was restored'
complete -c qbackup -n '_shtab_qbackup_using; and test $_shtab_qbackup_npos -eq 0' -a script -d 'Print a shell script that recreates the qubes on a new Qubes system.'
complete -c qbackup -n '_shtab_qbackup_using script' -s h -l help -d 'show this help message and exit'
complete -c qbackup -n '_shtab_qbackup_using script' -l restored -xka "(__fish_complete_directories)" -d 'the folder with the restored files (default: named when the script is run)'
complete -c qbackup -n '_shtab_qbackup_using script' -s p -l passphrase-file -xka "(__fish_complete_path (commandline -ct))" -d 'a file with the passphrase, or - for standard input'
complete -c qbackup -n '_shtab_qbackup_using script' -l passphrase-command -x -d 'a program that prints the passphrase'
complete -c qbackup -n '_shtab_qbackup_using script' -l jobs -x -d 'number of scrypt lanes that are derived side by side (default: one for each core)'
complete -c qbackup -n '_shtab_qbackup_using script' -l memory -x -d 'memory that key derivation may use, e.g. 400M (default: half of RAM)'
complete -c qbackup -n '_shtab_qbackup_using script' -l limit -x -d 'raise a limit that an error names, e.g. decoder_memory=2G; may be repeated'
complete -c qbackup -n '_shtab_qbackup_using script' -l compression-filter -x -d 'decompress with this program, which takes -d, instead of the one that the header names; none: the files are not compressed'
complete -c qbackup -n '_shtab_qbackup_using script' -l hmac-algorithm -x -d 'authenticate the header of formats 2 and 3 with this digest, even a weak one'
complete -c qbackup -n '_shtab_qbackup_using script' -l salvage -d 'go on where the header or the archive is damaged, and report each fault'
complete -c qbackup -n '_shtab_qbackup_using script' -l also -x -d 'another copy of the same backup: what is damaged in one is taken from the others; may be given again'
complete -c qbackup -n '_shtab_qbackup_using script' -l backup-id -x -d 'with --salvage: the id of a backup of format 4 whose header is lost, e.g. 20240917T101112-1234'
complete -c qbackup -n '_shtab_qbackup_using script' -l backup-id-window -x -d 'with --salvage: search for that id among these, SECONDS[,PID-PID][,TIME], e.g. 60,1000-4000: a minute on each side of the time in the file'"'"'s name'
complete -c qbackup -n '_shtab_qbackup_using script' -s q -l quiet -d 'show no progress'
complete -c qbackup -n '_shtab_qbackup_using script' -s v -l verbose -d 'show which libraries do the work'
complete -c qbackup -n '_shtab_qbackup_using script; and test $_shtab_qbackup_npos -eq 0' -ka "(__fish_complete_path (commandline -ct))" -d 'the backup'"'"'s file, or - for standard input'
complete -c qbackup -n '_shtab_qbackup_using; and test $_shtab_qbackup_npos -eq 0' -a ls -d 'List the files inside a disk image or a folder.'
complete -c qbackup -n '_shtab_qbackup_using ls' -s h -l help -d 'show this help message and exit'
complete -c qbackup -n '_shtab_qbackup_using ls' -s R -l recursive -d 'list everything below the path'
complete -c qbackup -n '_shtab_qbackup_using ls' -l spool -xka "(__fish_complete_directories)" -d 'folder for the temporary, encrypted copy of a large image (default: TMPDIR, else /var/tmp)'
complete -c qbackup -n '_shtab_qbackup_using ls' -l partition -x -d 'show this partition of a disk (default: the one with a system, else the largest with ext4)'
complete -c qbackup -n '_shtab_qbackup_using ls' -s p -l passphrase-file -xka "(__fish_complete_path (commandline -ct))" -d 'a file with the passphrase, or - for standard input'
complete -c qbackup -n '_shtab_qbackup_using ls' -l passphrase-command -x -d 'a program that prints the passphrase'
complete -c qbackup -n '_shtab_qbackup_using ls' -l json -d 'print one JSON document on standard output'
complete -c qbackup -n '_shtab_qbackup_using ls' -l jobs -x -d 'number of scrypt lanes that are derived side by side (default: one for each core)'
complete -c qbackup -n '_shtab_qbackup_using ls' -l memory -x -d 'memory that key derivation may use, e.g. 400M (default: half of RAM)'
complete -c qbackup -n '_shtab_qbackup_using ls' -l limit -x -d 'raise a limit that an error names, e.g. decoder_memory=2G; may be repeated'
complete -c qbackup -n '_shtab_qbackup_using ls' -l compression-filter -x -d 'decompress with this program, which takes -d, instead of the one that the header names; none: the files are not compressed'
complete -c qbackup -n '_shtab_qbackup_using ls' -l hmac-algorithm -x -d 'authenticate the header of formats 2 and 3 with this digest, even a weak one'
complete -c qbackup -n '_shtab_qbackup_using ls' -l salvage -d 'go on where the header or the archive is damaged, and report each fault'
complete -c qbackup -n '_shtab_qbackup_using ls' -l also -x -d 'another copy of the same backup: what is damaged in one is taken from the others; may be given again'
complete -c qbackup -n '_shtab_qbackup_using ls' -l backup-id -x -d 'with --salvage: the id of a backup of format 4 whose header is lost, e.g. 20240917T101112-1234'
complete -c qbackup -n '_shtab_qbackup_using ls' -l backup-id-window -x -d 'with --salvage: search for that id among these, SECONDS[,PID-PID][,TIME], e.g. 60,1000-4000: a minute on each side of the time in the file'"'"'s name'
complete -c qbackup -n '_shtab_qbackup_using ls' -s q -l quiet -d 'show no progress'
complete -c qbackup -n '_shtab_qbackup_using ls' -s v -l verbose -d 'show which libraries do the work'
complete -c qbackup -n '_shtab_qbackup_using ls; and test $_shtab_qbackup_npos -eq 0' -ka "(__fish_complete_path (commandline -ct))" -d 'the backup'"'"'s file, or - for standard input; or IMAGE:/path in an image that was restored'
complete -c qbackup -n '_shtab_qbackup_using; and test $_shtab_qbackup_npos -eq 0' -a cp -d 'Copy files out of a disk image.'
complete -c qbackup -n '_shtab_qbackup_using cp' -s h -l help -d 'show this help message and exit'
complete -c qbackup -n '_shtab_qbackup_using cp' -l overwrite -d 'replace a file, or a whole folder, that already has the name'
complete -c qbackup -n '_shtab_qbackup_using cp' -l spool -xka "(__fish_complete_directories)" -d 'folder for the temporary, encrypted copy of a large image (default: TMPDIR, else /var/tmp)'
complete -c qbackup -n '_shtab_qbackup_using cp' -l partition -x -d 'show this partition of a disk (default: the one with a system, else the largest with ext4)'
complete -c qbackup -n '_shtab_qbackup_using cp' -s p -l passphrase-file -xka "(__fish_complete_path (commandline -ct))" -d 'a file with the passphrase, or - for standard input'
complete -c qbackup -n '_shtab_qbackup_using cp' -l passphrase-command -x -d 'a program that prints the passphrase'
complete -c qbackup -n '_shtab_qbackup_using cp' -l json -d 'print one JSON document on standard output'
complete -c qbackup -n '_shtab_qbackup_using cp' -l jobs -x -d 'number of scrypt lanes that are derived side by side (default: one for each core)'
complete -c qbackup -n '_shtab_qbackup_using cp' -l memory -x -d 'memory that key derivation may use, e.g. 400M (default: half of RAM)'
complete -c qbackup -n '_shtab_qbackup_using cp' -l limit -x -d 'raise a limit that an error names, e.g. decoder_memory=2G; may be repeated'
complete -c qbackup -n '_shtab_qbackup_using cp' -l compression-filter -x -d 'decompress with this program, which takes -d, instead of the one that the header names; none: the files are not compressed'
complete -c qbackup -n '_shtab_qbackup_using cp' -l hmac-algorithm -x -d 'authenticate the header of formats 2 and 3 with this digest, even a weak one'
complete -c qbackup -n '_shtab_qbackup_using cp' -l salvage -d 'go on where the header or the archive is damaged, and report each fault'
complete -c qbackup -n '_shtab_qbackup_using cp' -l also -x -d 'another copy of the same backup: what is damaged in one is taken from the others; may be given again'
complete -c qbackup -n '_shtab_qbackup_using cp' -l backup-id -x -d 'with --salvage: the id of a backup of format 4 whose header is lost, e.g. 20240917T101112-1234'
complete -c qbackup -n '_shtab_qbackup_using cp' -l backup-id-window -x -d 'with --salvage: search for that id among these, SECONDS[,PID-PID][,TIME], e.g. 60,1000-4000: a minute on each side of the time in the file'"'"'s name'
complete -c qbackup -n '_shtab_qbackup_using cp' -s q -l quiet -d 'show no progress'
complete -c qbackup -n '_shtab_qbackup_using cp' -s v -l verbose -d 'show which libraries do the work'
complete -c qbackup -n '_shtab_qbackup_using cp; and test $_shtab_qbackup_npos -eq 0' -ka "(__fish_complete_path (commandline -ct))" -d 'the backup'"'"'s file, or - for standard input; or IMAGE:/path in an image that was restored'
complete -c qbackup -n '_shtab_qbackup_using cp; and test $_shtab_qbackup_npos -eq 2' -ka "(__fish_complete_path (commandline -ct))" -d 'a folder to copy into, or a new name'
complete -c qbackup -n '_shtab_qbackup_using; and test $_shtab_qbackup_npos -eq 0' -a protect -d 'Keep a good backup'"'"'s front and recovery blocks beside it, or repair with them.'
complete -c qbackup -n '_shtab_qbackup_using protect' -s h -l help -d 'show this help message and exit'
complete -c qbackup -n '_shtab_qbackup_using protect' -l redundancy -x -d 'length of the recovery blocks, in percent of the backup'"'"'s (default: 5)'
complete -c qbackup -n '_shtab_qbackup_using protect' -l front-only -d 'keep the front, and make no recovery blocks'
complete -c qbackup -n '_shtab_qbackup_using protect' -l repair -d 'repair the backup with the recovery blocks beside it, into the new file that -o names; the backup itself is left as it is'
complete -c qbackup -n '_shtab_qbackup_using protect' -s o -l output -xka "(__fish_complete_path (commandline -ct))" -d 'with --repair: the new file'
complete -c qbackup -n '_shtab_qbackup_using protect' -l overwrite -d 'replace the front and the recovery blocks that are there'
complete -c qbackup -n '_shtab_qbackup_using protect' -l limit -x -d 'raise a limit that an error names, e.g. decoder_memory=2G; may be repeated'
complete -c qbackup -n '_shtab_qbackup_using protect' -s q -l quiet -d 'show no progress'
complete -c qbackup -n '_shtab_qbackup_using protect; and test $_shtab_qbackup_npos -eq 0' -ka "(__fish_complete_path (commandline -ct))" -d 'the backup'"'"'s file, its first part, or its folder'
complete -c qbackup -n '_shtab_qbackup_using; and test $_shtab_qbackup_npos -eq 0' -a kit -d 'Make a folder to keep beside a backup, so that Python alone restores it.'
complete -c qbackup -n '_shtab_qbackup_using kit' -s h -l help -d 'show this help message and exit'
complete -c qbackup -n '_shtab_qbackup_using kit' -s o -l output -xka "(__fish_complete_directories)" -d 'the folder to write into'
complete -c qbackup -n '_shtab_qbackup_using kit' -l wheels -xka "(__fish_complete_directories)" -d 'take pycryptodome'"'"'s wheels from this folder, instead of downloading them with pip'
complete -c qbackup -n '_shtab_qbackup_using kit' -l no-wheels -d 'leave out everything that is compiled: the kit is smaller but slower'
complete -c qbackup -n '_shtab_qbackup_using; and test $_shtab_qbackup_npos -eq 0' -a completion -d 'Print the completions for a shell.'
complete -c qbackup -n '_shtab_qbackup_using completion' -s h -l help -d 'show this help message and exit'
complete -c qbackup -n '_shtab_qbackup_using completion; and test $_shtab_qbackup_npos -eq 0' -ka "bash zsh fish" -d 'bash, zsh or fish'
