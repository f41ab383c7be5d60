from cnnpy.cli import main

raise SystemExit(main())
